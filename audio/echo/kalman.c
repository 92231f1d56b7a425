// The partitioned-block frequency-domain Kalman filter (Enzner and Vary, 2006; Kuech,
// Mabande and Enzner, 2014). Its step follows, for each frequency, from how far off the
// filter may be (doubt) beside how loud whatever else is heard is (near): it learns as
// fast as can be while one end talks, and hardly at all while both do.
//
// Blocks overlap (overlap-save): a transform of n samples gives a tick of hop. Each part of
// the filter is two ticks long, so that it meets the spectrum of every second tick.

#include "kalman.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "drift.h"
#include "rest.h"

enum {
	part_ticks = 2,
	cut = 1,       // parts that are brought to their length in a tick, in turn
	looks = 25,    // ticks after which it is seen whether the filter has moved
	looks_at = 3,  // parts, which have the direct sound
};

static const float
	stays = 0.9998f,   // power of the room from tick to tick; the rest of it is new
	unknown = 1,       // doubt at the beginning, of the first part
	farther = 0.7f,    // of that in each later part
	smooth = 0.5f,     // of near from tick to tick
	inaudible = 100,   // power of a sample that is next to nothing
	least = 1e-12f,
	// A filter that leaves more than was there, in so many ticks in a row, is of another room.
	lately = 0.2f, // of a tick in what is compared
	more = 1.1f;

enum { wrong_ticks = 5 };

struct kalman {
	int hop, bins, parts, suppresses;
	transform t;
	drift drift;
	rest rest;
	float *window; // the last n samples that were played
	bin *played;   // spectra of the last ticks
	int newest;    // of them
	bin *filter, *before; // before: some ticks ago
	int ticks;     // since then
	float *doubt, *near;
	int next; // part to cut
	float was, is; // power of what was captured, and of what is left of it
	int wrong;     // ticks in which more was left
	// To work with.
	float *time, *tick;
	bin *echo, *left, *spectrum;
};

// forget begins again: nothing is known of the room.
static void forget(kalman *k) {
	memset(k->filter, 0, sizeof(bin) * k->parts * k->bins);
	memset(k->before, 0, sizeof(bin) * k->parts * k->bins);
	memset(k->near, 0, sizeof(float) * k->bins);
	float doubt = unknown;
	for (int part = 0; part < k->parts; part++, doubt *= farther)
		for (int i = 0; i < k->bins; i++)
			k->doubt[part * k->bins + i] = doubt;
	k->ticks = k->wrong = 0;
	k->was = k->is = 0;
	rest_forget(&k->rest);
}

kalman *kalman_new(int hop, int taps, int suppresses) {
	kalman *k = calloc(1, sizeof *k);
	if (!k)
		return NULL;
	int n = hop > 80 ? 512 : 256;
	k->hop = hop;
	k->bins = n / 2 + 1;
	k->parts = (taps + part_ticks * hop - 1) / (part_ticks * hop);
	k->suppresses = suppresses;
	int all = k->parts * k->bins;
	k->window = calloc(n, sizeof(float));
	k->played = calloc(part_ticks * all, sizeof(bin));
	k->filter = calloc(all, sizeof(bin));
	k->before = calloc(all, sizeof(bin));
	k->doubt = calloc(all, sizeof(float));
	k->near = calloc(k->bins, sizeof(float));
	k->time = calloc(n, sizeof(float));
	k->tick = calloc(hop, sizeof(float));
	k->echo = calloc(k->bins, sizeof(bin));
	k->left = calloc(k->bins, sizeof(bin));
	k->spectrum = calloc(k->bins, sizeof(bin));
	if (!transform_new(&k->t, n) || !drift_new(&k->drift, hop) || !rest_new(&k->rest, hop, k->bins) || !k->window || !k->played || !k->filter ||
		!k->before || !k->doubt || !k->near || !k->time || !k->tick || !k->echo || !k->left || !k->spectrum) {
		kalman_free(k);
		return NULL;
	}
	forget(k);
	return k;
}

void kalman_free(kalman *k) {
	if (!k)
		return;
	transform_free(&k->t);
	drift_free(&k->drift);
	rest_free(&k->rest);
	void *all[] = {k->window, k->played, k->filter, k->before, k->doubt, k->near, k->time, k->tick, k->echo, k->left, k->spectrum};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
	free(k);
}

static int16_t clipped(float v) { return v > 32767 ? 32767 : v < -32768 ? -32768 : (int16_t)lrintf(v); }

static float power(bin v) { return v.re * v.re + v.im * v.im; }

// part_of is the spectrum of what is in a part of the filter now.
static const bin *part_of(const kalman *k, int part) {
	return k->played + (k->newest + part_ticks * part) % (part_ticks * k->parts) * k->bins;
}

// spectrum_of makes that of the newest tick, behind silence.
static void spectrum_of(kalman *k, const float *tick, bin *out) {
	int n = k->t.n;
	memset(k->time, 0, sizeof(float) * (n - k->hop));
	memcpy(k->time + n - k->hop, tick, sizeof(float) * k->hop);
	transform_forward(&k->t, k->time, out);
}

// take makes the spectrum of what was played.
static void take(kalman *k, const int16_t *played) {
	int n = k->t.n;
	memmove(k->window, k->window + k->hop, sizeof(float) * (n - k->hop));
	if (drift_take(&k->drift, k->hop, played, k->window + n - k->hop))
		forget(k);
	int kept = part_ticks * k->parts;
	k->newest = (k->newest + kept - 1) % kept;
	transform_forward(&k->t, k->window, k->played + k->newest * k->bins);
}

// learn brings the filter nearer to the room, by what it has left.
static void learn(kalman *k) {
	float *all = k->time; // bins of it: all that is heard
	float share = (float)k->t.n / k->hop;
	for (int i = 0; i < k->bins; i++) {
		k->near[i] = smooth * k->near[i] + (1 - smooth) * power(k->left[i]);
		all[i] = share * (k->near[i] + inaudible * k->hop);
	}
	for (int part = 0; part < k->parts; part++) {
		const bin *x = part_of(k, part);
		const float *doubt = k->doubt + part * k->bins;
		for (int i = 0; i < k->bins; i++)
			all[i] += doubt[i] * power(x[i]);
	}
	for (int part = 0; part < k->parts; part++) {
		const bin *x = part_of(k, part), *e = k->left;
		bin *w = k->filter + part * k->bins;
		float *doubt = k->doubt + part * k->bins;
		for (int i = 0; i < k->bins; i++) {
			float step = doubt[i] / all[i];
			w[i].re += step * (x[i].re * e[i].re + x[i].im * e[i].im);
			w[i].im += step * (x[i].re * e[i].im - x[i].im * e[i].re);
			doubt[i] = stays * (1 - step * power(x[i]) / share) * doubt[i] + (1 - stays) * power(w[i]) + least;
		}
	}
	// What a part has beyond its length is of the circle that the transform closes.
	for (int c = 0; c < cut; c++) {
		bin *w = k->filter + k->next * k->bins;
		transform_backward(&k->t, w, k->time);
		memset(k->time + part_ticks * k->hop, 0, sizeof(float) * (k->t.n - part_ticks * k->hop));
		transform_forward(&k->t, k->time, w);
		k->next = (k->next + 1) % k->parts;
	}
}

// suspect forgets a room that is not there any more, of which learning slowly would take
// long: the filter is sure of it.
static void suspect(kalman *k, const int16_t *captured) {
	float was = 0, is = 0;
	for (int i = 0; i < k->hop; i++) {
		was += (float)captured[i] * captured[i];
		is += k->tick[i] * k->tick[i];
	}
	k->was += lately * (was - k->was);
	k->is += lately * (is - k->is);
	k->wrong = k->is <= more * k->was + inaudible * k->hop ? 0 : k->wrong + 1; // also of what is no number
	if (k->wrong == wrong_ticks)
		forget(k);
}

// follow sees by how much the direct sound is later than some ticks ago: two clocks drift.
static void follow(kalman *k) {
	if (++k->ticks < looks)
		return;
	k->ticks = 0;
	double up = 0, down = least;
	for (int part = 0; part < k->parts && part < looks_at; part++)
		for (int i = k->bins / 32; i < k->bins * 5 / 8; i++) { // where voices are
			bin a = k->before[part * k->bins + i], b = k->filter[part * k->bins + i];
			double turned = 2 * M_PI * i / k->t.n; // by a sample
			up += turned * (a.im * b.re - a.re * b.im);
			down += turned * turned * fabs(a.re * b.re + a.im * b.im);
		}
	drift_moved(&k->drift, up / down, looks * k->hop);
	memcpy(k->before, k->filter, sizeof(bin) * k->parts * k->bins);
}

void kalman_cancel(kalman *k, const int16_t *captured, const int16_t *played, int16_t *left) {
	take(k, played);
	memset(k->spectrum, 0, sizeof(bin) * k->bins);
	for (int part = 0; part < k->parts; part++) {
		const bin *x = part_of(k, part), *w = k->filter + part * k->bins;
		for (int i = 0; i < k->bins; i++) {
			k->spectrum[i].re += w[i].re * x[i].re - w[i].im * x[i].im;
			k->spectrum[i].im += w[i].re * x[i].im + w[i].im * x[i].re;
		}
	}
	transform_backward(&k->t, k->spectrum, k->time);
	memcpy(k->tick, k->time + k->t.n - k->hop, sizeof(float) * k->hop);
	if (k->suppresses)
		spectrum_of(k, k->tick, k->echo);
	for (int i = 0; i < k->hop; i++)
		k->tick[i] = captured[i] - k->tick[i];
	spectrum_of(k, k->tick, k->left);
	suspect(k, captured);
	if (k->suppresses)
		rest_suppress(&k->rest, &k->t, k->left, k->echo, k->tick, k->tick, k->time, k->spectrum);
	for (int i = 0; i < k->hop; i++)
		left[i] = clipped(k->tick[i]);
	learn(k);
	follow(k);
}
