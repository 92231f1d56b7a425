#include "textflag.h"

// Sixteen products a round in four sums, then what is left by fours.
TEXT ·dot(SB), NOSPLIT, $0-52
	MOVD a_base+0(FP), R0
	MOVD a_len+8(FP), R2
	MOVD b_base+24(FP), R1
	VEOR V0.B16, V0.B16, V0.B16
	VEOR V1.B16, V1.B16, V1.B16
	VEOR V2.B16, V2.B16, V2.B16
	VEOR V3.B16, V3.B16, V3.B16
	SUBS $16, R2
	BLT  rest

sixteen:
	VLD1.P 64(R0), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4]
	VFMLA  V4.S4, V16.S4, V0.S4
	VFMLA  V5.S4, V17.S4, V1.S4
	VFMLA  V6.S4, V18.S4, V2.S4
	VFMLA  V7.S4, V19.S4, V3.S4
	SUBS   $16, R2
	BGE    sixteen

rest:
	ADDS $12, R2 // what is left, less 4
	BLT  sum

four:
	VLD1.P 16(R0), [V4.S4]
	VLD1.P 16(R1), [V16.S4]
	VFMLA  V4.S4, V16.S4, V0.S4
	SUBS   $4, R2
	BGE    four

sum:
	// Each lane of the sums, times one, in one register.
	FMOVS $1.0, F20
	VDUP  V20.S[0], V20.S4
	VFMLA V1.S4, V20.S4, V0.S4
	VFMLA V2.S4, V20.S4, V0.S4
	VFMLA V3.S4, V20.S4, V0.S4
	VEXT  $8, V0.B16, V0.B16, V1.B16
	VFMLA V1.S4, V20.S4, V0.S4
	VMOV  V0.S[0], R3
	VMOV  V0.S[1], R4
	FMOVS R3, F0
	FMOVS R4, F1
	FADDS F1, F0
	FMOVS F0, ret+48(FP)
	RET
