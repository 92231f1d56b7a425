// A transform takes n real samples, a power of two, to their spectrum and back.
typedef struct {
	float re, im;
} bin;

typedef struct {
	int n;
	float *turns; // cos and sin of 2 pi i / n, for i below n/2
	int *order;   // in which n/2 points are taken
	bin *work;    // n/2
} transform;

// transform_new returns 0 if there is no memory; transform_free frees what there is.
int transform_new(transform *t, int n);
void transform_free(transform *t);

// transform_forward makes n/2 + 1 bins of n samples, and transform_backward the reverse.
void transform_forward(const transform *t, const float *in, bin *out);
void transform_backward(const transform *t, const bin *in, float *out);
