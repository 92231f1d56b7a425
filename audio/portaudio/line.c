#include "line.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ring_make(ring *r, uint32_t least) {
	uint32_t size = 1;
	while (size < least)
		size *= 2;
	r->mask = size - 1;
	r->samples = calloc(size, sizeof *r->samples);
	return r->samples != NULL;
}

static uint32_t ring_len(ring *r) {
	return atomic_load_explicit(&r->written, memory_order_acquire) -
	       atomic_load_explicit(&r->read, memory_order_acquire);
}

// ring_write adds all n samples (NULL: silence), or returns 0 if there is no room.
static int ring_write(ring *r, const int16_t *s, uint32_t n) {
	uint32_t w = atomic_load_explicit(&r->written, memory_order_relaxed);
	if (ring_len(r) + n > r->mask + 1)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		r->samples[(w + i) & r->mask] = s ? s[i] : 0;
	atomic_store_explicit(&r->written, w + n, memory_order_release);
	return 1;
}

// ring_read fetches up to n samples and returns how many.
static uint32_t ring_read(ring *r, int16_t *s, uint32_t n) {
	uint32_t at = atomic_load_explicit(&r->read, memory_order_relaxed), have = ring_len(r);
	if (n > have)
		n = have;
	for (uint32_t i = 0; i < n; i++)
		s[i] = r->samples[(at + i) & r->mask];
	atomic_store_explicit(&r->read, at + n, memory_order_release);
	return n;
}

line *line_new(uint32_t tick, uint32_t ahead, uint32_t on_top, int wake) {
	line *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->tick = tick;
	l->most = ahead + on_top;
	l->wake = wake;
	uint32_t room = ahead + 15 * tick;
	if (!ring_make(&l->play, room) || !ring_make(&l->captured, room)) {
		line_free(l);
		return NULL;
	}
	line_reset(l, ahead);
	return l;
}

void line_free(line *l) {
	free(l->play.samples);
	free(l->captured.samples);
	free(l);
}

void line_reset(line *l, uint32_t ahead) {
	l->play.written = l->play.read = l->captured.written = l->captured.read = l->part = 0;
	ring_write(&l->play, NULL, ahead);
}

void line_put(line *l, const int16_t *play) {
	if (ring_len(&l->play) + l->tick <= l->most)
		ring_write(&l->play, play, l->tick);
}

int line_take(line *l, int16_t *captured) {
	if (ring_len(&l->captured) < l->tick)
		return 0;
	ring_read(&l->captured, captured, l->tick);
	return 1;
}

void line_call(line *l, const int16_t *in, int16_t *out, uint32_t n) {
	uint32_t played = ring_read(&l->play, out, n);
	if (played < n) {
		memset(out + played, 0, (n - played) * sizeof *out);
		l->underruns++;
	}
	if (!ring_write(&l->captured, in, n)) {
		l->overruns++;
		return;
	}
	// One wake for each tick that has become whole.
	l->part += n;
	uint64_t ticks = l->part / l->tick;
	l->part %= l->tick;
	if (ticks > 0 && write(l->wake, &ticks, sizeof ticks) < 0)
		return; // it is awake: the counter is full
}

static int callback(const void *in, void *out, unsigned long n, const PaStreamCallbackTimeInfo *time,
                    PaStreamCallbackFlags flags, void *user) {
	(void)time;
	(void)flags;
	line_call(user, in, out, n);
	return paContinue;
}

PaError line_open(line *l, PaDeviceIndex in, double in_latency, PaDeviceIndex out, double out_latency,
                  double rate, unsigned long period) {
	PaStreamParameters from = {in, 1, paInt16, in_latency, NULL}, to = {out, 1, paInt16, out_latency, NULL};
	return Pa_OpenStream(&l->stream, &from, &to, rate, period, paNoFlag, callback, l);
}

uint32_t line_underruns(line *l) { return l->underruns; }
uint32_t line_overruns(line *l) { return l->overruns; }
