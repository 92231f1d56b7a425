#include <stdint.h>

// A drift is how much the clock of the microphone and that of the loudspeaker differ. It
// makes of what was played what a loudspeaker on the microphone's clock would have played.
typedef struct {
	double rate;   // samples by which the loudspeaker falls behind in a sample
	double offset; // and by which it is behind
	float *said;   // what was played lately
	float *between; // a filter for each place between two samples
} drift;

// drift_new returns 0 if there is no memory; drift_free frees what there is.
int drift_new(drift *d, int hop);
void drift_free(drift *d);

// drift_take writes what hop samples are on the microphone's clock, drift_behind samples
// late. It returns 1 where the offset has jumped.
enum { drift_behind = 8 };
int drift_take(drift *d, int hop, const int16_t *played, float *out);

// drift_moved tells that the echo has moved by so many samples in so many.
void drift_moved(drift *d, double by, int in);
