package link

import "time"

// Grace is how long the carrier may be away before the address counts
// as lost. A cable that is replugged, or a switch that renegotiates its
// speed, takes less; a person notices no more.
const Grace = 500 * time.Millisecond
