// A Wiener filter: each frequency is turned down by what part of it is likely to be echo.
// How much of the echo is left is learned from where that is least, a band at a time: it is
// believed quickly when it is less, and slowly when it is more, since it may be that
// somebody talks. The gains become a filter of linear phase and a few ms, so that nothing
// waits for a block.

#include "rest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { bands = sizeof(((rest *)0)->bands) / sizeof(((rest *)0)->bands[0]), taps = 2 * rest_behind + 1 };

static const float
	certain = 4,     // times what is likely is turned down
	deepest = 0.03f, // gain
	opens = 0.5f,    // of the way to a larger gain in a tick; to a smaller one it is at once
	rings = 0.8f,    // of an echo after a tick
	slow = 0.05f,    // of a tick in a band's power
	believes = 0.93f,
	forgets = 1.002f,
	most_share = 4,   // of a loudspeaker that is nearer than who talks
	audible = 100;    // power of a sample's echo to learn of

int rest_new(rest *r, int hop, int bins) {
	r->hop = hop;
	r->bins = bins;
	r->echo = calloc(bins, sizeof(float));
	r->left = calloc(bins, sizeof(float));
	r->gain = calloc(bins, sizeof(float));
	r->now = calloc(taps, sizeof(float));
	r->before = calloc(taps, sizeof(float));
	r->past = calloc(taps - 1 + hop, sizeof(float));
	if (!r->echo || !r->left || !r->gain || !r->now || !r->before || !r->past)
		return 0;
	r->before[rest_behind] = 1;
	rest_forget(r);
	return 1;
}

void rest_free(rest *r) {
	void *all[] = {r->echo, r->left, r->gain, r->now, r->before, r->past};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

void rest_forget(rest *r) {
	for (int b = 0; b < bands; b++)
		r->bands[b].share = 1;
}

static float power(bin v) { return v.re * v.re + v.im * v.im; }

// learn brings up to date how much of the echo is left in each band.
static void learn(rest *r) {
	int wide = (r->bins - 1) / bands;
	for (int b = 0; b < bands; b++) {
		float echo = 0, left = 0;
		for (int i = b * wide; i < (b + 1) * wide; i++) {
			echo += r->echo[i];
			left += r->left[i];
		}
		r->bands[b].echo += slow * (echo - r->bands[b].echo);
		r->bands[b].left += slow * (left - r->bands[b].left);
		if (r->bands[b].echo < audible * r->hop * wide)
			continue;
		float share = r->bands[b].left / r->bands[b].echo;
		if (share < r->bands[b].share)
			r->bands[b].share = fmaxf(share, r->bands[b].share * believes);
		else
			r->bands[b].share = fminf(most_share, r->bands[b].share * forgets);
	}
}

void rest_suppress(rest *r, const transform *t, const bin *left_of, const bin *echo_of, const float *tick, float *out, float *time, bin *spectrum) {
	memmove(r->past, r->past + r->hop, sizeof(float) * (taps - 1));
	memcpy(r->past + taps - 1, tick, sizeof(float) * r->hop);
	for (int i = 0; i < r->bins; i++) {
		float echo = power(echo_of[i]);
		r->echo[i] = echo > r->echo[i] ? echo : echo + rings * (r->echo[i] - echo);
		r->left[i] = (r->left[i] + power(left_of[i])) / 2;
	}
	learn(r);
	int wide = (r->bins - 1) / bands;
	for (int i = 0; i < r->bins; i++) {
		int b = i / wide < bands ? i / wide : bands - 1;
		float gain = fmaxf(deepest, 1 - certain * r->bands[b].share * r->echo[i] / (r->left[i] + 1));
		r->gain[i] = gain < r->gain[i] ? gain : r->gain[i] + opens * (gain - r->gain[i]);
		spectrum[i] = (bin){r->gain[i], 0};
	}
	transform_backward(t, spectrum, time);
	for (int i = -rest_behind; i <= rest_behind; i++)
		r->now[rest_behind + i] = time[(i + t->n) % t->n] * (0.5f + 0.5f * cosf(M_PI * i / (rest_behind + 1)));
	for (int i = 0; i < r->hop; i++) {
		float before = 0, now = 0;
		for (int j = 0; j < taps; j++) {
			before += r->before[j] * r->past[i + j];
			now += r->now[j] * r->past[i + j];
		}
		out[i] = before + (now - before) * (i + 1) / r->hop;
	}
	float *swapped = r->before;
	r->before = r->now;
	r->now = swapped;
}
