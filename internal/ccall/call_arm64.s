#include "textflag.h"

// C keeps R19 to R29: with R28 Go's goroutine.
TEXT ·call(SB), NOSPLIT, $0-24
	MOVD fn+0(FP), R9
	MOVD arg+8(FP), R0
	MOVD top+16(FP), R10
	MOVD RSP, R19
	MOVD R10, RSP
	CALL (R9)
	MOVD R19, RSP
	RET
