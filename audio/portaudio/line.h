// A line is one opening of a card: the two rings between the card's thread and
// the engine. Each ring has one writer and one reader, neither of whom ever
// waits; one of the two is in Go (ring.go). Samples are 16 bits, mono.
#include <portaudio.h>
#include <stdint.h>

typedef struct {
	int16_t *samples;
	uint32_t mask;          // its size less 1; the size is a power of 2
	uint32_t written, read; // counts; atomic
} ring;

typedef struct {
	ring play, captured;
	uint32_t tick; // samples
	uint32_t part; // of a captured tick, since the last whole one
	int wake;      // an eventfd, which counts captured ticks
	// How often the card had nothing to play, and how often what it captured was
	// lost; how many periods came more than a period late; atomic.
	uint32_t underruns, overruns, late;
	uint32_t stood; // the longest of these lately, in samples less the period; atomic
	uint64_t last; // when the last period came, in ns; 0: none has
	// priority is the SCHED_RR priority that the card's thread takes with its first
	// period, if it has no such already; 0: none.
	int priority, asked;
	PaStream *stream;
} line;

// line_new returns NULL where memory is short. ahead is how much silence waits for
// the card before the engine's first tick.
line *line_new(uint32_t tick, uint32_t ahead, int wake);
void line_free(line *l);

// line_reset empties both rings but for the silence; nobody else uses them then.
void line_reset(line *l, uint32_t ahead);

// line_open opens the card; without in (paNoDevice) what is captured is silence.
PaError line_open(line *l, PaDeviceIndex in, double in_latency, PaDeviceIndex out, double out_latency,
                  double rate, unsigned long period);

// line_call is what the card's thread does with each period; without in (NULL) silence
// is captured.
void line_call(line *l, const int16_t *in, int16_t *out, uint32_t n);
