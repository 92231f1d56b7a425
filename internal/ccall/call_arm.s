#include "textflag.h"

// C keeps R4 to R11: with R10 Go's goroutine.
TEXT ·call(SB), NOSPLIT, $0-12
	MOVW fn+0(FP), R5
	MOVW arg+4(FP), R0
	MOVW top+8(FP), R1
	MOVW R13, R4
	MOVW R1, R13
	CALL (R5)
	MOVW R4, R13
	RET
