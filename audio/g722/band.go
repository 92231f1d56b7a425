package g722

// Tables of G.722, clause 6.2, under the names that they have there. Levels are
// in 1/4096 of the scale factor, which is DET.
var (
	// q6 are the decision levels of the lower band's 60 intervals (table 14).
	q6 = [...]int32{
		35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714,
		786, 858, 940, 1023, 1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
	}
	// oq4 and oq6 are the output levels of the lower band, with all of its bits
	// and with the four that the predictor hears (tables 15 and 17).
	oq4 = [8]int32{0, 150, 323, 530, 786, 1121, 1612, 2557}
	oq6 = [31]int32{
		0, 17, 54, 91, 130, 170, 211, 254, 300, 347, 396, 447, 501, 558, 618, 682, 750,
		822, 899, 982, 1072, 1170, 1279, 1399, 1535, 1689, 1873, 2088, 2376, 2738, 3101,
	}
	// q2 and oq2 are those of the upper band (tables 20 and 21).
	q2  = int32(564)
	oq2 = [3]int32{0, 202, 926}
	// wl and wh are by how much the logarithm of the scale factor moves with each
	// interval (tables 16 and 22).
	wl = [8]int32{-60, -30, 58, 172, 334, 538, 1198, 3042}
	wh = [3]int32{0, -214, 798}
	// ilb is the antilogarithm of 0 to 31/32, in 1/2048 (table 19).
	ilb = [32]int32{
		2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
		2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
	}
)

// A level is what a code of a band means.
type level struct {
	out     int32 // as it is heard
	predict int32 // as the predictor hears it; both in 1/32768 of the scale factor
	log     int32 // by how much the logarithm of the scale factor moves
}

// The codes of both bands: the lower one's six bits, the upper one's two.
var (
	lower = lowerLevels()
	upper = [4]level{upperLevel(-1, 2), upperLevel(-1, 1), upperLevel(1, 2), upperLevel(1, 1)}
)

// lowerLevels follows tables 14 and 18: the code of interval m, from 1 at 0 to 30,
// is 63-m above 0 for the first two and 33-m from there on below 0, 62-m above it.
// The codes 0 to 3 are not sent, since four bits of 0 could be lost by old lines;
// whoever hears them all the same hears the smallest of the negative ones.
func lowerLevels() (l [64]level) {
	for code := range l {
		sign, m := int32(1), 1
		switch {
		case code < 4:
			sign = -1
		case code < 32:
			sign, m = -1, 34-code
		case code < 62:
			m = 62 - code
		default:
			sign, m = -1, 64-code
		}
		l[code].out = sign * oq6[m] << 3
		// The four bits: 0 and 15 around 0, 1 to 7 below it, 8 to 14 above.
		sign, m = 1, code>>2
		switch {
		case m == 15:
			m = 0
		case m > 7:
			m = 15 - m
		case m > 0:
			sign, m = -1, 8-m
		}
		l[code].predict, l[code].log = sign*oq4[m]<<3, wl[m]
	}
	return l
}

func upperLevel(sign int32, m int) level {
	return level{sign * oq2[m] << 3, sign * oq2[m] << 3, wh[m]}
}

// A band is one half of the spectrum as both ends know it: what its scale factor
// is and what its predictor expects. Blocks are named as in clause 6.2. Bands are
// numbers of 16 bits with saturation, as the standard demands them.
type band struct {
	shift  uint  // of the scale factor
	most   int32 // of nb
	nb     int32 // logarithm of the scale factor
	det    int32 // scale factor
	s, sz  int32 // predicted signal; its zero section's part
	a      [2]int32
	b      [6]int32
	r      [2]int32 // reconstructed signals, the newest first
	p      [2]int32 // partially reconstructed ones
	d      [6]int32 // differences
	levels []level
}

func lowerBand() band { return band{shift: 8, most: 18432, det: 32, levels: lower[:]} }

func upperBand() band { return band{shift: 10, most: 22528, det: 8, levels: upper[:]} }

func saturate(v int32) int32 { return min(max(v, -32768), 32767) }

// limit is LIMIT: of 15 bits.
func limit(v int32) int32 { return min(max(v, -16384), 16383) }

// same is 1 where a and b have one sign (0 is positive), else -1.
func same(a, b int32) int32 { return 1 - 2*int32(uint32(a^b)>>31) }

// quantizeLower is SUBTRA and QUANTL: the code of a sample of the lower band.
func (b *band) quantizeLower(x int32) uint8 {
	e := saturate(x - b.s)
	wd := e ^ e>>31 // a negative one's complement
	// The interval is one more than there are levels not above wd.
	m, end := 0, len(q6)
	for m < end {
		if mid := (m + end) / 2; wd < q6[mid]*b.det>>12 {
			end = mid
		} else {
			m = mid + 1
		}
	}
	m++
	switch {
	case e >= 0:
		return uint8(62 - m)
	case m <= 2:
		return uint8(64 - m)
	default:
		return uint8(34 - m)
	}
}

// quantizeUpper is SUBTRA and QUANTH.
func (b *band) quantizeUpper(x int32) uint8 {
	e := saturate(x - b.s)
	code := uint8(1)
	if e^e>>31 >= q2*b.det>>12 {
		code = 0
	}
	if e >= 0 {
		code += 2
	}
	return code
}

// take makes the band follow a code, and returns the sample that it stands for.
func (b *band) take(code uint8) int32 {
	l := &b.levels[code]
	out := limit(saturate(b.s + b.det*l.out>>15)) // INVQBL, RECONS, LIMIT
	b.follow(b.det * l.predict >> 15)             // INVQAL, INVQAH
	b.nb = min(max(b.nb*127>>7+l.log, 0), b.most) // LOGSCL, LOGSCH
	// SCALEL, SCALEH
	if b.det = ilb[b.nb>>6&31]; b.nb>>11 > int32(b.shift) {
		b.det <<= uint(b.nb>>11) - b.shift
	} else {
		b.det >>= b.shift - uint(b.nb>>11)
	}
	b.det <<= 2
	return out
}

// follow updates the predictor with a difference, and predicts what comes next.
func (b *band) follow(d int32) {
	r := saturate(b.s + d)  // RECONS
	p := saturate(b.sz + d) // PARREC

	// UPPOL2, UPPOL1
	a2 := -same(p, b.p[0]) * saturate(b.a[0]<<2)
	a2 = min(a2, 32767)>>7 + 128*same(p, b.p[1]) + b.a[1]*32512>>15
	a2 = min(max(a2, -12288), 12288)
	a1 := saturate(192*same(p, b.p[0]) + b.a[0]*32640>>15)
	bound := 15360 - a2
	b.a = [2]int32{min(max(a1, -bound), bound), a2}

	// UPZERO, FILTEZ: a coefficient moves by the difference before the shift, and
	// is multiplied by the one after it.
	step := int32(128)
	if d == 0 {
		step = 0
	}
	b.sz = 0
	for i := len(b.d) - 1; i >= 0; i-- {
		b.b[i] = saturate(step*same(d, b.d[i]) + b.b[i]*32640>>15)
		if b.d[i] = d; i > 0 {
			b.d[i] = b.d[i-1]
		}
		b.sz = saturate(b.sz + b.b[i]*saturate(2*b.d[i])>>15)
	}

	// FILTEP, PREDIC
	b.r = [2]int32{r, b.r[0]}
	b.p = [2]int32{p, b.p[0]}
	sp := saturate(b.a[0]*saturate(2*b.r[0])>>15 + b.a[1]*saturate(2*b.r[1])>>15)
	b.s = saturate(sp + b.sz)
}
