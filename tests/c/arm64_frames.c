/* Frames of every kind that ARM64 unwind data describes: leaf, packed, large, dynamic, many saved
   registers, floating point, recursion, tail calls. */
typedef unsigned long long U64;
typedef unsigned char U8;
#define APART __attribute__((noinline))
volatile U64 Sink;
volatile double Real;

__asm__(".globl __chkstk\n__chkstk: ret\n");

APART U64 Leafy(U64 x) { return x * 3 + 1; }

APART U64 SmallFrame(U64 x)
{
    Sink = x;
    return Leafy(x) + Leafy(x + 1) + Sink;
}

APART U64 LargeFrame(U64 x)
{
    volatile U8 room[0x900];
    for (int i = 0; i < 4; i++) room[i * 0x200] = (U8)(x + i);
    return SmallFrame(room[0x200]) + room[0x400];
}

APART U64 HugeFrame(U64 x)
{
    volatile U8 room[0x2800];
    room[0] = (U8)x;
    room[0x27ff] = 1;
    return LargeFrame(room[0] + room[0x27ff]);
}

APART U64 Dynamic(U64 n)
{
    volatile U8 *room = __builtin_alloca((n & 0x7f) + 0x40);
    room[n & 0x1f] = (U8)n;
    return HugeFrame(room[n & 0x1f]) + n;
}

APART U64 Saves(U64 a, U64 b, U64 c, U64 d, U64 e, U64 f)
{
    U64 g = a ^ b, h = b + c, i = c * d, j = d - a, k = e ^ f;
    g += Dynamic(a);
    h ^= Leafy(g);
    i += SmallFrame(h);
    j ^= Leafy(i);
    k += Leafy(j);
    return a + b + c + d + e + f + g + h + i + j + k;
}

APART U64 Floats(U64 x)
{
    double a = Real, b = a * 2, c = b + a, d = c * b;
    U64 y = SmallFrame(x);
    Real = a + b + c + d;
    return y + Saves(x, 2, 3, 4, 5, 6);
}

APART U64 Recurse(U64 n)
{
    Sink = n;
    return n ? Recurse(n - 1) + Leafy(n) : Floats(n);
}

APART U64 Tail(U64 x)
{
    Sink = x;
    return Recurse(x & 3);
}

APART U64 Many(U64 a, U64 b, U64 c, U64 d, U64 e, U64 f, U64 g, U64 h, U64 i, U64 j)
{
    Sink = a + b + c + d + e + f + g + h;
    return Tail(i) + Leafy(j) + a + h;
}

U64 Entry(U64 x)
{
    U64 a = Many(x, 1, 2, 3, 4, 5, 6, 7, 2, 9);
    return a + Tail(x);
}
