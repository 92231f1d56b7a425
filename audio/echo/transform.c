// The fast Fourier transform of radix 2; that of n real samples by one of n/2 complex
// ones, of which the even samples are the real part.

#include "transform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int transform_new(transform *t, int n) {
	t->n = n;
	t->turns = calloc(n, sizeof(float));
	t->order = calloc(n / 2, sizeof(int));
	t->work = calloc(n / 2, sizeof(bin));
	if (!t->turns || !t->order || !t->work)
		return 0;
	for (int i = 0, j = 0; i < n / 2; i++) {
		t->turns[2 * i] = cos(2 * M_PI * i / n);
		t->turns[2 * i + 1] = sin(2 * M_PI * i / n);
		t->order[i] = j;
		int bit = n / 4;
		for (; j & bit; bit /= 2)
			j ^= bit;
		j |= bit;
	}
	return 1;
}

void transform_free(transform *t) {
	free(t->turns);
	free(t->order);
	free(t->work);
}

// complex_forward is the transform of the n/2 points of work, in place.
static void complex_forward(const transform *t) {
	bin *v = t->work;
	int half = t->n / 2;
	for (int i = 0; i < half; i++) {
		int j = t->order[i];
		if (j > i) {
			bin swapped = v[i];
			v[i] = v[j];
			v[j] = swapped;
		}
	}
	for (int len = 1; len < half; len *= 2)
		for (int i = 0; i < half; i += 2 * len)
			for (int j = 0; j < len; j++) {
				const float *turn = t->turns + 2 * j * (half / len);
				bin a = v[i + j], b = v[i + j + len];
				float re = b.re * turn[0] + b.im * turn[1], im = b.im * turn[0] - b.re * turn[1];
				v[i + j] = (bin){a.re + re, a.im + im};
				v[i + j + len] = (bin){a.re - re, a.im - im};
			}
}

void transform_forward(const transform *t, const float *in, bin *out) {
	int half = t->n / 2;
	memcpy(t->work, in, sizeof(float) * t->n);
	complex_forward(t);
	for (int i = 0; i <= half; i++) {
		bin a = t->work[i % half], b = t->work[(half - i) % half];
		float even_re = (a.re + b.re) / 2, even_im = (a.im - b.im) / 2, odd_re = (a.im + b.im) / 2, odd_im = (b.re - a.re) / 2;
		float c = i < half ? t->turns[2 * i] : -1, s = i < half ? t->turns[2 * i + 1] : 0;
		out[i] = (bin){even_re + odd_re * c + odd_im * s, even_im + odd_im * c - odd_re * s};
	}
}

void transform_backward(const transform *t, const bin *in, float *out) {
	int half = t->n / 2;
	for (int i = 0; i < half; i++) {
		bin a = in[i], b = in[half - i];
		float even_re = (a.re + b.re) / 2, even_im = (a.im - b.im) / 2, turned_re = (a.re - b.re) / 2, turned_im = (a.im + b.im) / 2;
		float c = t->turns[2 * i], s = t->turns[2 * i + 1];
		float odd_re = turned_re * c - turned_im * s, odd_im = turned_re * s + turned_im * c;
		// Conjugated before and after, the forward transform is the backward one.
		t->work[i] = (bin){even_re - odd_im, -even_im - odd_re};
	}
	complex_forward(t);
	for (int i = 0; i < half; i++) {
		out[2 * i] = t->work[i].re / half;
		out[2 * i + 1] = -t->work[i].im / half;
	}
}
