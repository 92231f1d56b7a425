package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/links"
	"flexphone/storing-server/internal/mirror"
	"flexphone/storing-server/internal/pairs"
)

// metrics are what Prometheus may read. It is exchange.Counters.
type metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.CounterVec
	answers    sync.Map // the counters of requests, by answered
	dropped    *prometheus.CounterVec
	handshakes *prometheus.CounterVec
	sessions   prometheus.Gauge
	notified   prometheus.Counter
	links      prometheus.Gauge
	linkSaid   *prometheus.CounterVec
	linkBytes  prometheus.Counter
	stun       *prometheus.CounterVec
	datagrams  map[pairs.Verdict]prometheus.Counter
	soundBytes prometheus.Counter
	openPairs  atomic.Pointer[func() int]
	batch      prometheus.Histogram
	commit     prometheus.Histogram
	opinion    prometheus.Histogram
	lost       prometheus.Histogram
	delay      prometheus.Histogram
	ways       [len(wire.Ways)]prometheus.Counter
	passes     *prometheus.CounterVec
	sip        *prometheus.CounterVec
	dns        *prometheus.CounterVec
	http       *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "storing_server_requests_total", Help: "Requests answered, by kind and CoAP code.",
		}, []string{"request", "code"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "storing_server_dropped_total", Help: "What was turned away, by reason.",
		}, []string{"reason"}),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "storing_server_handshakes_total", Help: "DTLS handshakes, by result.",
		}, []string{"result"}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "storing_server_sessions", Help: "DTLS sessions.",
		}),
		notified: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "storing_server_notifications_total", Help: "Notifications sent to observers.",
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "storing_server_batch_messages", Help: "Messages synced to the disk at once.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 6),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "storing_server_commit_seconds", Help: "Time until a batch was on the disk.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
	}
	m.links = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "storing_server_links", Help: "Relayed links between phones that are open, or were lately.",
	})
	m.linkSaid = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storing_server_link_messages_total", Help: "Messages of relayed links, by what became of them.",
	}, []string{"result"})
	m.linkBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "storing_server_link_bytes_total", Help: "Bytes of relayed links that were passed on.",
	})
	m.registry.MustRegister(m.links, m.linkSaid, m.linkBytes)
	m.stun = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storing_server_stun_total", Help: "Datagrams at the STUN ports, by what became of them.",
	}, []string{"result"})
	relayed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storing_server_relay_datagrams_total", Help: "Datagrams at the port that relays sound, by what became of them.",
	}, []string{"result"})
	m.datagrams = map[pairs.Verdict]prometheus.Counter{}
	for _, v := range []pairs.Verdict{pairs.Forwarded, pairs.Asked, pairs.Taken, pairs.Stranger, pairs.Alone, pairs.TooMuch} {
		m.datagrams[v] = relayed.WithLabelValues(string(v))
	}
	m.soundBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "storing_server_relay_bytes_total", Help: "Bytes of sound that were relayed.",
	})
	for _, result := range []string{mirror.Answered, mirror.Malformed, mirror.TooOften} {
		m.stun.WithLabelValues(result)
	}
	pairsOpen := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "storing_server_relay_pairs", Help: "Pairs of phones whose sound is relayed, or may be.",
	}, func() float64 {
		if open := m.openPairs.Load(); open != nil {
			return float64((*open)())
		}
		return 0
	})
	m.passes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storing_server_relay_passes_total", Help: "Passes for relayed sound that were asked for, by what became of that.",
	}, []string{"result"})
	for _, result := range pairs.Results {
		m.passes.WithLabelValues(result)
	}
	m.registry.MustRegister(m.stun, relayed, m.soundBytes, pairsOpen, m.passes)
	m.opinion = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "storing_server_call_mos", Help: "Mean opinion score of calls, 1 to 4.5, as phones tell that are set to it.",
		Buckets: []float64{1.5, 2, 2.58, 3.1, 3.6, 4.03, 4.34}, // from 2.58 on where ITU-T G.107, annex B, finds users differently satisfied
	})
	m.lost = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "storing_server_call_lost_ratio", Help: "Part of the packets of a call that did not come, or came too late.",
		Buckets: []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2},
	})
	m.delay = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "storing_server_call_delay_seconds", Help: "From mouth to ear of a call, as far as its phone knows.",
		Buckets: []float64{0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1}, // 0.15 and 0.4 are those of ITU-T G.114
	})
	ways := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storing_server_calls_total", Help: "Calls, as phones tell that are set to it, by the way that their sound went to that phone.",
	}, []string{"way"})
	for i, way := range wire.Ways {
		m.ways[i] = ways.WithLabelValues(way.String())
	}
	m.registry.MustRegister(m.opinion, m.lost, m.delay, ways)
	m.sip = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storing_server_sip_requests_total", Help: "SIP requests, by method and code; code 0: dropped.",
	}, []string{"method", "code"})
	m.dns = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storing_server_dns_queries_total", Help: "DNS queries, by type and answer.",
	}, []string{"type", "rcode"})
	m.http = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "storing_server_http_requests_total", Help: "HTTP requests of the operator, by route and status.",
	}, []string{"route", "code"})
	m.registry.MustRegister(m.http, m.sip, m.dns, m.requests, m.dropped, m.handshakes, m.sessions, m.notified, m.batch, m.commit,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// rows adds a gauge of the rows there are.
func (m *metrics) rows(size func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "storing_server_rows", Help: "Rows, of phones online and offline.",
	}, func() float64 { return float64(size()) }))
}

func (m *metrics) committed(n int, took time.Duration) {
	m.batch.Observe(float64(n))
	m.commit.Observe(took.Seconds())
}

// heard counts a call that a phone has told of.
func (m *metrics) heard(h wire.Heard) {
	m.opinion.Observe(float64(h.Opinion) / 100)
	m.lost.Observe(float64(h.Lost) / 1000)
	m.delay.Observe(h.Delay.Seconds())
	m.ways[h.Way].Inc()
}

func (m *metrics) request(kind string, code codes.Code) {
	key := answered{kind, code}
	c, ok := m.answers.Load(key)
	if !ok {
		c, _ = m.answers.LoadOrStore(key, m.requests.WithLabelValues(kind, fmt.Sprintf("%d.%02d", code>>5, code&31)))
	}
	c.(prometheus.Counter).Inc()
}

// answered is a kind of request and the code of its answer.
type answered struct {
	kind string
	code codes.Code
}

// sipRequest counts a request; methods that nobody knows count as one.
func (m *metrics) sipRequest(method string, code int) {
	switch method {
	case "REGISTER", "INVITE", "OPTIONS", "ACK", "CANCEL":
	default:
		method = "other"
	}
	m.sip.WithLabelValues(method, strconv.Itoa(code)).Inc()
}

func (m *metrics) httpRequest(route string, status int) {
	m.http.WithLabelValues(route, strconv.Itoa(status)).Inc()
}

func (m *metrics) dnsQuery(kind, rcode string) { m.dns.WithLabelValues(kind, rcode).Inc() }

// Links implements links.Counters.
func (m *metrics) Links(delta int) { m.links.Add(float64(delta)) }

// LinkMessage implements links.Counters.
func (m *metrics) LinkMessage(v links.Verdict, bytes int) {
	m.linkSaid.WithLabelValues(string(v)).Inc()
	if v == links.Passed {
		m.linkBytes.Add(float64(bytes))
	}
}

// stunQuestion counts what came to a STUN port.
func (m *metrics) stunQuestion(result string) { m.stun.WithLabelValues(result).Inc() }

// relayed counts what came to the port that relays sound.
func (m *metrics) relayed(v pairs.Verdict, bytes int) {
	m.datagrams[v].Inc()
	if v == pairs.Forwarded {
		m.soundBytes.Add(float64(bytes))
	}
}

// pass counts what became of a pass that was asked for.
func (m *metrics) pass(result string) { m.passes.WithLabelValues(result).Inc() }

// pairs makes the number of pairs a metric.
func (m *metrics) pairs(open func() int) { m.openPairs.Store(&open) }

// Session implements exchange.Counters.
func (m *metrics) Session(delta int) { m.sessions.Add(float64(delta)) }

// Handshake implements exchange.Counters.
func (m *metrics) Handshake(ok bool) {
	result := "ok"
	if !ok {
		result = "failed"
	}
	m.handshakes.WithLabelValues(result).Inc()
}

// Dropped implements exchange.Counters.
func (m *metrics) Dropped(why string) { m.dropped.WithLabelValues(why).Inc() }

// Notified implements exchange.Counters.
func (m *metrics) Notified() { m.notified.Inc() }
