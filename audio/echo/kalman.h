#include <stdint.h>

// A kalman is an adaptive filter: it finds out what becomes of what was played until a
// microphone hears it, and takes that out. It follows the clock of the loudspeaker where
// that is not the microphone's.
typedef struct kalman kalman;

// kalman_new makes one for ticks of hop samples, 80 or 160, and an echo that is over after
// so many samples; NULL: there is no memory. One that suppresses, suppresses as well what
// it cannot take out, which delays what is left by kalman_suppressed samples.
kalman *kalman_new(int hop, int taps, int suppresses);
void kalman_free(kalman *k);
enum { kalman_suppressed = 32 };

// kalman_cancel writes what is left of a tick that was captured when the echo of
// played is taken out, which was played while the tick before was captured.
void kalman_cancel(kalman *k, const int16_t *captured, const int16_t *played, int16_t *left);
