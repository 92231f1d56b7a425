#include "transform.h"

// A rest suppresses what an adaptive filter leaves of an echo: what a loudspeaker distorts,
// and all before the filter knows the room.
typedef struct {
	int hop, bins;
	float *echo, *left; // power, smoothed
	float *gain;
	float *now, *before; // filters made of gain, of 2*rest_behind + 1 taps
	float *past;
	struct {
		float echo, left; // power, more smoothed
		float share;      // of the echo that is left
	} bands[8];
} rest;

enum { rest_behind = 32 };

// rest_new returns 0 if there is no memory; rest_free frees what there is.
int rest_new(rest *r, int hop, int bins);
void rest_free(rest *r);

// rest_forget: nothing is known of the room any more.
void rest_forget(rest *r);

// rest_suppress takes a tick that the filter has left, with its spectrum and that of the
// echo that was taken out, and writes it rest_behind samples late. t, and time of n samples and
// spectrum, are to work with.
void rest_suppress(rest *r, const transform *t, const bin *left_of, const bin *echo_of, const float *tick, float *out, float *time, bin *spectrum);
