struct later;
typedef unsigned long ulong_t;
enum colour { RED = 1, GREEN = 2, BLUE = -3 };
enum big { HUGE_ONE = 0x123456789abcdefUL };
union both { int number; char text[4]; };
struct sample {
	unsigned int a : 3;
	int b : 5;
	unsigned char c;
	const volatile ulong_t *restrict pointer;
	int matrix[2][3];
	enum colour colour;
	union both both;
	struct { short inner; };
	int (*call)(struct later *, const char *, ...);
	_Bool flag;
	double real;
	char rest[];
};
struct sample *keep;
enum big keep_too;
int function(struct sample *of, long number) { return of->b + (int)number; }
