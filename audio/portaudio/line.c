#include "line.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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
	return __atomic_load_n(&r->written, __ATOMIC_ACQUIRE) - __atomic_load_n(&r->read, __ATOMIC_ACQUIRE);
}

// ring_write adds all n samples (NULL: silence), or returns 0 if there is no room.
static int ring_write(ring *r, const int16_t *s, uint32_t n) {
	uint32_t w = __atomic_load_n(&r->written, __ATOMIC_RELAXED);
	if (ring_len(r) + n > r->mask + 1)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		r->samples[(w + i) & r->mask] = s ? s[i] : 0;
	__atomic_store_n(&r->written, w + n, __ATOMIC_RELEASE);
	return 1;
}

// ring_read fetches up to n samples and returns how many.
static uint32_t ring_read(ring *r, int16_t *s, uint32_t n) {
	uint32_t at = __atomic_load_n(&r->read, __ATOMIC_RELAXED), have = ring_len(r);
	if (n > have)
		n = have;
	for (uint32_t i = 0; i < n; i++)
		s[i] = r->samples[(at + i) & r->mask];
	__atomic_store_n(&r->read, at + n, __ATOMIC_RELEASE);
	return n;
}

line *line_new(uint32_t tick, uint32_t ahead, int wake) {
	line *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->tick = tick;
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
	l->last = 0;
	l->asked = 0; // the next beginning may be on another thread
	ring_write(&l->play, NULL, ahead);
}

// line_watch counts a period of n samples that comes more than a period late, and
// remembers how late: those that it kept waiting come at once after it.
static void line_watch(line *l, uint32_t n) {
	struct timespec t;
	if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
		return;
	uint64_t now = (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	uint64_t period = (uint64_t)n * 10000000 / l->tick; // a tick is 10 ms
	if (l->last != 0 && now - l->last > 2 * period) {
		__atomic_fetch_add(&l->late, 1, __ATOMIC_RELAXED);
		uint64_t stood = (now - l->last - period) * l->tick / 10000000;
		if (stood > 15 * l->tick) // more than the rings hold
			stood = 15 * l->tick;
		if (stood > __atomic_load_n(&l->stood, __ATOMIC_RELAXED))
			__atomic_store_n(&l->stood, (uint32_t)stood, __ATOMIC_RELAXED);
	}
	l->last = now;
}

void line_call(line *l, const int16_t *in, int16_t *out, uint32_t n) {
	line_watch(l, n);
	uint32_t played = ring_read(&l->play, out, n);
	if (played < n) {
		memset(out + played, 0, (n - played) * sizeof *out);
		__atomic_fetch_add(&l->underruns, 1, __ATOMIC_RELAXED);
	}
	if (!ring_write(&l->captured, in, n)) {
		__atomic_fetch_add(&l->overruns, 1, __ATOMIC_RELAXED);
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
	line *l = user;
	if (!l->asked) {
		l->asked = 1;
		struct sched_param p = {.sched_priority = l->priority};
		if (l->priority > 0 && sched_getscheduler(0) == SCHED_OTHER)
			(void)sched_setscheduler(0, SCHED_RR, &p); // refused: it is as all others
	}
	line_call(user, in, out, n);
	return paContinue;
}

PaError line_open(line *l, PaDeviceIndex in, double in_latency, PaDeviceIndex out, double out_latency,
                  double rate, unsigned long period) {
	PaStreamParameters from = {in, 1, paInt16, in_latency, NULL}, to = {out, 1, paInt16, out_latency, NULL};
	return Pa_OpenStream(&l->stream, in == paNoDevice ? NULL : &from, &to, rate, period, paNoFlag, callback, l);
}
