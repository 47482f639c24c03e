// First and only program of a guest that measures its CPU: says a marker, runs every loop for a while, powers off.
//
// Compiled statically by tests/bench and packed as the guest's /init; the kernel hands on `measure=WORDS` as a variable of
// the environment: `boot` ends at the marker, anything else is a list of rows, none means all of them. Prints
// `row NAME RATE`, work a second by the guest's own clock; what a unit of work is stands beside each loop.
// Law: every loop's result is used, none depends on what the C library does for a faster CPU.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t used;
static double seconds_each = 0.4;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static uint64_t random_number(void) {
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return state;
}

// Bytes of a table-driven CRC-32.
static long crc32(void) {
    static uint32_t table[256];
    static unsigned char data[65536];
    if (!table[1]) for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
        table[i] = value;
    }
    uint32_t crc = ~0u;
    for (size_t i = 0; i < sizeof data; i++) crc = crc >> 8 ^ table[(crc ^ data[i]) & 255];
    data[crc & 65535]++;
    used += crc;
    return sizeof data;
}

// Bytes of SHA-256 (FIPS 180-4, section 6.2; its constants are computed as section 4.2.2 defines them).
static uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }
static long sha256(void) {
    static uint32_t constant[64], hash[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    if (!constant[0]) {
        int found = 0;
        for (int candidate = 2; found < 64; candidate++) {
            int prime = 1;
            for (int by = 2; by * by <= candidate; by++) prime &= candidate % by != 0;
            if (!prime) continue;
            long double root = 1;
            for (int step = 0; step < 100; step++) root -= (root * root * root - candidate) / (3 * root * root);
            constant[found++] = (uint32_t)((root - (int)root) * 4294967296.0L);
        }
    }
    for (int block = 0; block < 256; block++) {
        uint32_t w[64], v[8];
        for (int i = 0; i < 16; i++) w[i] = hash[i & 7] + i * block;
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(v, hash, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t one = v[7] + (rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)) +
                           ((v[4] & v[5]) ^ (~v[4] & v[6])) + constant[i] + w[i];
            uint32_t two = (rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)) +
                           ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            v[7] = v[6]; v[6] = v[5]; v[5] = v[4]; v[4] = v[3] + one;
            v[3] = v[2]; v[2] = v[1]; v[1] = v[0]; v[0] = one + two;
        }
        for (int i = 0; i < 8; i++) hash[i] += v[i];
    }
    used += hash[0];
    return 256 * 64;
}

// Numbers sorted by a quicksort.
static void quicksort(uint32_t *from, uint32_t *to) {
    while (to - from > 12) {
        uint32_t pivot = from[(to - from) / 2], *low = from, *high = to - 1;
        for (;;) {
            while (*low < pivot) low++;
            while (*high > pivot) high--;
            if (low >= high) break;
            uint32_t kept = *low; *low++ = *high; *high-- = kept;
        }
        quicksort(from, low);
        from = low;
    }
    for (uint32_t *at = from + 1; at < to; at++) {
        uint32_t value = *at, *hole = at;
        for (; hole > from && hole[-1] > value; hole--) *hole = hole[-1];
        *hole = value;
    }
}
static long sort(void) {
    static uint32_t numbers[20000];
    for (int i = 0; i < 20000; i++) numbers[i] = random_number();
    quicksort(numbers, numbers + 20000);
    used += numbers[777];
    return 20000;
}

// Calls.
static long calls;
static __attribute__((noinline, noclone)) int fibonacci(int n) {
    calls++;
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}
static long call_and_return(void) {
    calls = 0;
    used += fibonacci(20);
    return calls;
}

// Words of a text that are split, measured, compared, and turned to numbers.
static long string(void) {
    static char text[8192];
    if (!text[0]) for (int i = 0; i < 8000; i++) text[i] = i % 7 == 6 ? ' ' : '0' + random_number() % 10;
    long words = 0;
    for (char *at = text; *at; words++) {
        unsigned value = 0, len = 0, seen = 0;
        for (; *at && *at != ' '; at++, len++) {
            switch (*at) {
            case '0': value *= 10; break;
            case '7': seen++; // fall through: as any other digit
            default: value = value * 10 + (*at - '0');
            }
        }
        while (*at == ' ') at++;
        used += value / (len + 1) + value % 97 + seen;
    }
    return words;
}

// Bytes copied, 8 MiB at a time.
static long copy(void) {
    static char *from, *to;
    enum { SIZE = 8 << 20 };
    if (!from) {
        from = malloc(SIZE); to = malloc(SIZE);
        memset(from, 1, SIZE); memset(to, 2, SIZE);
    }
    memcpy(to, from, SIZE);
    used += to[random_number() % SIZE];
    return SIZE;
}

// Steps from pointer to pointer over 4 MiB.
static long chase(void) {
    enum { COUNT = (4 << 20) / sizeof(void *) };
    static void **cells;
    static void **at;
    if (!cells) {
        uint32_t *order = malloc(COUNT * sizeof *order);
        cells = malloc(COUNT * sizeof *cells);
        for (uint32_t i = 0; i < COUNT; i++) order[i] = i;
        for (uint32_t i = COUNT - 1; i > 0; i--) {
            uint32_t j = random_number() % i, kept = order[i];
            order[i] = order[j]; order[j] = kept;
        }
        for (uint32_t i = 0; i < COUNT; i++) cells[order[i]] = &cells[order[(i + 1) % COUNT]];
        at = cells;
        free(order);
    }
    for (int i = 0; i < 100000; i++) at = *at;
    used += (uintptr_t)at;
    return 100000;
}

// Multiplications and additions of doubles in a matrix product.
static long floating(void) {
    enum { N = 48 };
    static double a[N][N], b[N][N], c[N][N];
    if (!a[0][0]) for (int i = 0; i < N; i++) for (int j = 0; j < N; j++) a[i][j] = 1.0 / (i + j + 1), b[i][j] = i - j;
    for (int i = 0; i < N; i++) for (int j = 0; j < N; j++) {
        double sum = 0;
        for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
        c[i][j] = sum / 3;
    }
    a[1][1] = c[2][2] * 1e-9;
    used += (uint64_t)(int64_t)c[3][3];
    return 2L * N * N * N;
}

// Hand-overs between two processes by two pipes.
static long ping_pong(void) {
    static int there[2], back[2];
    if (!there[1]) {
        if (pipe(there) || pipe(back)) return 0;
        if (!fork()) {
            char byte;
            while (read(there[0], &byte, 1) == 1) if (write(back[1], &byte, 1) != 1) break;
            _exit(0);
        }
    }
    char byte = 0;
    for (int i = 0; i < 100; i++) if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) return 0;
    return 200;
}

// System calls that do nothing.
static long system_call(void) {
    for (int i = 0; i < 1000; i++) used += syscall(SYS_getppid);
    return 1000;
}

// Programs started and ended.
static long fork_and_exec(void) {
    char *arguments[] = {"/init", "nothing", NULL}, *environment[] = {NULL};
    for (int i = 0; i < 5; i++) {
        pid_t child = fork();
        if (!child) { execve("/init", arguments, environment); _exit(1); }
        int status;
        waitpid(child, &status, 0);
        if (status) return 0;
    }
    return 5;
}

// Pages touched for the first time.
static long page_faults(void) {
    enum { SIZE = 4 << 20 };
    char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, SIZE, MADV_NOHUGEPAGE);
    for (long at = 0; at < SIZE; at += 4096) memory[at] = 1;
    munmap(memory, SIZE);
    return SIZE / 4096;
}

static const struct { const char *name; long (*run)(void); } rows[] = {
    {"crc32", crc32}, {"sha256", sha256}, {"sort", sort}, {"call", call_and_return}, {"string", string},
    {"memcpy", copy}, {"chase", chase}, {"float", floating}, {"ping-pong", ping_pong}, {"getppid", system_call},
    {"fork-exec", fork_and_exec}, {"page-fault", page_faults},
};

int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "nothing")) return 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("marker");
    const char *wanted = getenv("measure");
    if (getenv("seconds")) seconds_each = atof(getenv("seconds"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (wanted && !strstr(wanted, rows[i].name)) continue;
        rows[i].run();
        double begin = now(), work = 0, took;
        do { work += rows[i].run(); took = now() - begin; } while (took < seconds_each);
        printf("row %s %.9g\n", rows[i].name, work / took);
    }
    puts("done");
    tcdrain(1); // nothing printed is lost in the power-off
    reboot(RB_POWER_OFF);
    return 1;
}
