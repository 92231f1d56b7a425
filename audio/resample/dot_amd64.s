#include "textflag.h"

// SSE, which every amd64 has: sixteen products a round in four sums, then what is left
// by eight and by four.
TEXT ·dot(SB), NOSPLIT, $0-52
	MOVQ  a_base+0(FP), SI
	MOVQ  a_len+8(FP), CX
	MOVQ  b_base+24(FP), DI
	XORPS X0, X0
	XORPS X1, X1
	XORPS X2, X2
	XORPS X3, X3
	SUBQ  $16, CX
	JLT   eight

sixteen:
	MOVUPS 0(SI), X4
	MOVUPS 16(SI), X5
	MOVUPS 32(SI), X6
	MOVUPS 48(SI), X7
	MOVUPS 0(DI), X8
	MOVUPS 16(DI), X9
	MOVUPS 32(DI), X10
	MOVUPS 48(DI), X11
	MULPS  X8, X4
	MULPS  X9, X5
	MULPS  X10, X6
	MULPS  X11, X7
	ADDPS  X4, X0
	ADDPS  X5, X1
	ADDPS  X6, X2
	ADDPS  X7, X3
	ADDQ   $64, SI
	ADDQ   $64, DI
	SUBQ   $16, CX
	JGE    sixteen

eight:
	ADDQ   $8, CX // what is left, less 8
	JLT    four
	MOVUPS 0(SI), X4
	MOVUPS 16(SI), X5
	MOVUPS 0(DI), X8
	MOVUPS 16(DI), X9
	MULPS  X8, X4
	MULPS  X9, X5
	ADDPS  X4, X0
	ADDPS  X5, X1
	ADDQ   $32, SI
	ADDQ   $32, DI
	SUBQ   $8, CX

four:
	ADDQ   $4, CX
	JLT    sum
	MOVUPS 0(SI), X4
	MOVUPS 0(DI), X8
	MULPS  X8, X4
	ADDPS  X4, X2

sum:
	ADDPS  X1, X0
	ADDPS  X3, X2
	ADDPS  X2, X0
	MOVAPS X0, X1
	SHUFPS $0x4E, X1, X1 // the halves change places
	ADDPS  X1, X0
	MOVAPS X0, X1
	SHUFPS $0xB1, X1, X1 // neighbours do
	ADDSS  X1, X0
	MOVSS  X0, ret+48(FP)
	RET
