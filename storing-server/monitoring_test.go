package main

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message/codes"

	"flexphone/registry-client/wire"
	"flexphone/storing-server/internal/exchange"
	"flexphone/storing-server/internal/links"
)

// exported returns the names of the metrics that there are, with the labels that
// each has, once each of them has counted something.
func exported(t *testing.T) map[string]map[string]bool {
	t.Helper()
	m := newMetrics()
	m.rows(func() int { return 1 })
	m.request("lookup", codes.Content)
	m.sipRequest("REGISTER", 200)
	m.dnsQuery("A", "NOERROR")
	m.httpRequest("/", 200)
	m.committed(1, time.Millisecond)
	m.heard(wire.Heard{Opinion: 430})
	var c exchange.Counters = m
	c.Session(1)
	c.Handshake(true)
	c.Dropped("full")
	c.Notified()
	m.Links(1)
	m.LinkMessage(links.Passed, 1)
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]bool{"up": {}} // which Prometheus makes itself
	for _, family := range all {
		labels := map[string]bool{}
		for _, one := range family.GetMetric() {
			for _, l := range one.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		out[family.GetName()] = labels
		if h := family.GetMetric()[0].GetHistogram(); h != nil {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				out[family.GetName()+suffix] = maps.Clone(labels)
			}
			out[family.GetName()+"_bucket"]["le"] = true
		}
	}
	return out
}

var (
	metricName = regexp.MustCompile(`\b(?:storing_server|process|go|up)(?:_[a-z0-9_]+)?\b`)
	selector   = regexp.MustCompile(`([a-z_]+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`([a-z]+)=~?"`)
	grouping   = regexp.MustCompile(`by \(([a-z, ]+)\) \(rate\(([a-z_]+)`)
)

// checkExpr reports metrics and labels in an expression that there are not.
func checkExpr(t *testing.T, where, expr string, there map[string]map[string]bool) {
	t.Helper()
	has := func(metric, label string) bool {
		return label == "job" || label == "instance" || there[metric][label]
	}
	quoted := regexp.MustCompile(`"[^"]*"`)
	found := 0
	for _, name := range metricName.FindAllString(quoted.ReplaceAllString(expr, `""`), -1) {
		found++
		if there[name] == nil {
			t.Errorf("%s: there is no metric %s", where, name)
		}
	}
	if found == 0 {
		t.Errorf("%s: %q names no metric", where, expr)
	}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		for _, l := range labelName.FindAllStringSubmatch(s[2], -1) {
			if !has(s[1], l[1]) {
				t.Errorf("%s: %s has no label %s", where, s[1], l[1])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.Split(g[1], ", ") {
			if !has(g[2], l) {
				t.Errorf("%s: %s has no label %s to group by", where, g[2], l)
			}
		}
	}
}

// The dashboard and the alerts are of metrics that there are, and the dashboard
// shows all of the server's own.
func TestMonitoring(t *testing.T) {
	there := exported(t)
	text, err := os.ReadFile("monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, one := range p.Targets {
			checkExpr(t, p.Title, one.Expr, there)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		derived := strings.HasSuffix(name, "_bucket") || strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_count")
		if strings.HasPrefix(name, "storing_server_") && !derived && !strings.Contains(string(text), name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	rules, err := os.ReadFile("monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	name := ""
	for line := range strings.Lines(string(rules)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "- alert":
			name = value
			alerts++
		case "expr":
			checkExpr(t, name, value, there)
		}
	}
	if n := strings.Count(string(rules), "\n        expr: "); alerts < 5 || n != alerts || n != strings.Count(string(rules), "summary: \"") {
		t.Errorf("%d alerts, %d expressions; want one and a summary of each", alerts, n)
	}
	// Reasons that alerts wait for are ones that are counted.
	for _, reason := range []string{"full", "refused 5.03"} {
		if !strings.Contains(string(rules), `reason="`+reason+`"`) {
			t.Errorf("no alert waits for %q", reason)
		}
	}
}
