#include "textflag.h"

// C keeps R12 to R15, RBX and RBP: with R14 Go's goroutine.
TEXT ·call(SB), NOSPLIT, $0-24
	MOVQ fn+0(FP), AX
	MOVQ arg+8(FP), DI
	MOVQ top+16(FP), BX
	MOVQ SP, R12
	MOVQ BX, SP
	CALL AX
	MOVQ R12, SP
	RET
