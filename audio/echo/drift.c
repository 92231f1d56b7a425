// What was played is read at another rate, between its samples by a windowed sinc. The
// offset grows for as long as there is a drift; a card, or what is before it, leaves out
// or repeats samples at some time, and so does this.

#include "drift.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	places = 64,
	width = 2 * drift_behind,
	// The offset is between 0 and most samples, and begins in the middle: no device is as
	// near as that.
	most = 80,
	middle = most / 2,
};

static const double
	believed = 0.5,  // of what was seen
	fastest = 5e-4; // of two quartzes each is 100 ppm off at the most, of two computers more

static int kept(int hop) { return hop + most + width + 1; }

int drift_new(drift *d, int hop) {
	d->said = calloc(kept(hop), sizeof(float));
	d->between = calloc((places + 1) * width, sizeof(float));
	d->offset = middle;
	if (!d->said || !d->between)
		return 0;
	for (int p = 0; p <= places; p++)
		for (int i = 0; i < width; i++) {
			double x = i - drift_behind + 1 - (double)p / places;
			d->between[p * width + i] = (fabs(x) < 1e-9 ? 1 : sin(M_PI * x) / (M_PI * x)) * (0.5 + 0.5 * cos(M_PI * x / (drift_behind + 0.5)));
		}
	return 1;
}

void drift_free(drift *d) {
	free(d->said);
	free(d->between);
}

int drift_take(drift *d, int hop, const int16_t *played, float *out) {
	int all = kept(hop), jumped = 0;
	memmove(d->said, d->said + hop, sizeof(float) * (all - hop));
	for (int i = 0; i < hop; i++)
		d->said[all - hop + i] = played[i];
	for (int i = 0; i < hop; i++) {
		d->offset += d->rate;
		if (d->offset < 0 || d->offset > most) {
			d->offset = middle;
			jumped = 1;
		}
		double at = all - hop + i - drift_behind - d->offset;
		int whole = (int)at;
		double place = (at - whole) * places;
		const float *a = d->between + (int)place * width, *b = a + width, *v = d->said + whole - drift_behind + 1;
		float part = place - (int)place, sum = 0;
		for (int j = 0; j < width; j++)
			sum += (a[j] + part * (b[j] - a[j])) * v[j];
		out[i] = sum;
	}
	return jumped;
}

void drift_moved(drift *d, double by, int in) {
	d->rate += believed * fmax(-1, fmin(1, by)) / in;
	d->rate = fmax(-fastest, fmin(fastest, d->rate));
}
