/* Counts what the steps of step_case.h cost, and compares with what was recorded.
 *
 *   step_cost [--record] [--cpu] BASELINE
 *
 * A child runs the steps; its parent has it single-stepped by the kernel (ptrace) through one run
 * of each and counts: instructions in user space, the same on every run, whatever else the machine
 * does, and with no need for a performance counter, which virtual machines often lack. Where that
 * is not allowed, or with --cpu, the least CPU time of many runs counts, in thousandths of that of
 * a piece of reference work measured just before and after, so that a slower machine is not taken
 * for a dearer step.
 *
 * BASELINE has a line for each step: unit, architecture and compiler, step, cost of an operation. A
 * step that costs more than BOUND allows fails; one that costs a lot less is told, so that its
 * line is renewed (--record). Exit code 77: there is nothing to compare with here.
 */
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/step_case.h"

#define WARM_RUNS      40
#define COUNTED_RUNS   1
#define CPU_RUNS       400
#define MAX_STEPS      UINT64_C(20000000) /* of one run: it hangs */
#define BOUND_STEPS    1.3
#define BOUND_CPU      1.8
#define MUCH_LESS      0.8
#define MAX_CASES      16
#define SKIP           77
#define REFERENCE_WORK 20000

const struct step_case step_cases[] = {
    {"codec_request", FEW, codec_create, NULL, codec_run_request},
    {"codec_append", BATCH, codec_create, NULL, codec_run_append},
    {"wal_append", BATCH, wal_case_create, NULL, wal_case_run},
    {"apply_put", FEW, apply_create, apply_ready, apply_run},
    {"apply_save", FEW, apply_create, save_ready, save_run},
    {"raft_leader", BATCH, leader_create, leader_ready, leader_run},
    {"raft_follower", BATCH, follower_create, follower_ready, follower_run},
};
const size_t n_step_cases = sizeof(step_cases) / sizeof(step_cases[0]);

/* Costs of one operation, by case; the child writes them when it measures CPU time. */
struct costs {
    double of[MAX_CASES];
};

static void fail(const char *what)
{
    fprintf(stderr, "step_cost: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- The child ---- */

static void *prepare(const struct step_case *step, const char *dir)
{
    char path[4096];
    void *context;

    snprintf(path, sizeof(path), "%s/%s", dir, step->name);
    if (mkdir(path, 0700) != 0) {
        fail(path);
    }
    context = step->create(path);
    for (unsigned i = 0; i < WARM_RUNS; i++) {
        if (step->ready != NULL) {
            step->ready(context);
        }
        step->run(context);
    }
    return context;
}

/* Stops before and after what the parent is to count: an empty run, then COUNTED_RUNS of each. */
static void run_stepped(const char *dir)
{
    void *contexts[MAX_CASES];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (size_t i = 0; i < n_step_cases; i++) {
        contexts[i] = prepare(&step_cases[i], dir);
    }
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
        _exit(SKIP);
    }
    raise(SIGSTOP);
    raise(SIGSTOP);
    for (size_t i = 0; i < n_step_cases; i++) {
        for (unsigned run = 0; run < COUNTED_RUNS; run++) {
            if (step_cases[i].ready != NULL) {
                step_cases[i].ready(contexts[i]);
            }
            raise(SIGSTOP);
            step_cases[i].run(contexts[i]);
            raise(SIGSTOP);
        }
    }
    _exit(0);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* A bit of everything that the steps do: copying, branching, memory. */
static uint64_t reference_ns(void)
{
    static uint8_t bytes[1 << 18];
    uint64_t start_ns = cpu_ns(), x = 88172645463325252u;

    for (unsigned i = 0; i < REFERENCE_WORK; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memmove(bytes + x % (sizeof(bytes) / 2), bytes + sizeof(bytes) / 2 + x % 65536,
                64 + x % 256);
        bytes[x % sizeof(bytes)] = (uint8_t)x;
    }
    return cpu_ns() - start_ns;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void run_timed(const char *dir, struct costs *costs)
{
    for (size_t i = 0; i < n_step_cases; i++) {
        const struct step_case *step = &step_cases[i];
        void *context = prepare(step, dir);
        uint64_t best_ns = UINT64_MAX, best_reference_ns = UINT64_MAX;

        for (unsigned run = 0; run < CPU_RUNS; run++) {
            uint64_t start_ns;

            if (run % 20 == 0) {
                best_reference_ns = least(best_reference_ns, reference_ns());
            }
            if (step->ready != NULL) {
                step->ready(context);
            }
            start_ns = cpu_ns();
            step->run(context);
            best_ns = least(best_ns, cpu_ns() - start_ns);
        }
        costs->of[i] = 1000.0 * (double)best_ns / (double)best_reference_ns / step->operations;
    }
    _exit(0);
}

/* ---- The parent ---- */

static bool await_stop(pid_t child)
{
    int status;

    if (waitpid(child, &status, 0) != child) {
        fail("waitpid");
    }
    if (WIFSTOPPED(status)) {
        return true;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP) {
        return false;
    }
    fprintf(stderr, "step_cost: a step failed (status %d)\n", status);
    exit(1);
}

/* The child stands at a SIGSTOP: how many instructions until the next one? */
static uint64_t count_steps(pid_t child)
{
    int status;

    for (uint64_t n = 0; n < MAX_STEPS; n++) {
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0 ||
            waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) {
            fprintf(stderr, "step_cost: a step failed while it was counted\n");
            exit(1);
        }
        if (WSTOPSIG(status) == SIGSTOP) {
            return n;
        }
    }
    fprintf(stderr, "step_cost: a step does not end\n");
    exit(1);
}

static bool resume_until_stop(pid_t child)
{
    return ptrace(PTRACE_CONT, child, NULL, NULL) == 0 && await_stop(child);
}

/* Parent and child take turns at every instruction: on one processor that is several times cheaper.
 */
static void stay_here(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)sched_getcpu(), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* False: not allowed here. */
static bool count_all(const char *dir, struct costs *costs)
{
    uint64_t nothing;
    pid_t child;

    stay_here();
    child = fork();
    if (child < 0) {
        fail("fork");
    }
    if (child == 0) {
        run_stepped(dir);
    }
    if (!await_stop(child)) {
        return false;
    }
    nothing = count_steps(child);
    for (size_t i = 0; i < n_step_cases; i++) {
        uint64_t fewest = UINT64_MAX;

        for (unsigned run = 0; run < COUNTED_RUNS; run++) {
            if (!resume_until_stop(child)) {
                fail("ptrace");
            }
            fewest = least(fewest, count_steps(child));
        }
        costs->of[i] = (double)(fewest - nothing) / step_cases[i].operations;
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return true;
}

static void time_all(const char *dir, struct costs *shared)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_timed(dir, shared);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "step_cost: a step failed\n");
        exit(1);
    }
}

/* ---- The baseline ---- */

/* Architecture, compiler and kind of build: costs of one say nothing about another. */
static void describe(char *text, size_t size)
{
    struct utsname system;

    uname(&system);
#ifdef __clang__
    snprintf(text, size, "%s-clang%d-%s", system.machine, __clang_major__, STEP_BUILD_TYPE);
#else
    snprintf(text, size, "%s-gcc%d-%s", system.machine, __GNUC__, STEP_BUILD_TYPE);
#endif
}

static bool recorded(const char *path, const char *unit, const char *where, const char *name,
                     double *cost)
{
    char line[256], a[64], b[64], c[64];
    FILE *file = fopen(path, "r");
    bool found = false;

    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        found = sscanf(line, "%63s %63s %63s %lf", a, b, c, cost) == 4 && strcmp(a, unit) == 0 &&
                strcmp(b, where) == 0 && strcmp(c, name) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

/* Writes the file anew: the lines of other units and builds stay. */
static void record(const char *path, const char *unit, const char *where, const struct costs *costs)
{
    char next[4096], line[256], a[64], b[64];
    FILE *from = fopen(path, "r"), *to;

    snprintf(next, sizeof(next), "%s.new", path);
    to = fopen(next, "w");
    if (to == NULL) {
        fail(next);
    }
    while (from != NULL && fgets(line, sizeof(line), from) != NULL) {
        if (sscanf(line, "%63s %63s", a, b) != 2 || strcmp(a, unit) != 0 || strcmp(b, where) != 0) {
            fputs(line, to);
        }
    }
    for (size_t i = 0; i < n_step_cases; i++) {
        fprintf(to, "%s\t%s\t%s\t%.4g\n", unit, where, step_cases[i].name, costs->of[i]);
    }
    if (from != NULL) {
        fclose(from);
    }
    if (fclose(to) != 0 || rename(next, path) != 0) {
        fail(path);
    }
}

static int compare(const char *path, const char *unit, const char *where, const struct costs *costs,
                   double bound)
{
    unsigned known = 0, dearer = 0;

    printf("%s of one operation (%s)\n", unit, where);
    for (size_t i = 0; i < n_step_cases; i++) {
        double before, ratio;
        const char *verdict = "";

        if (!recorded(path, unit, where, step_cases[i].name, &before) || before <= 0) {
            printf("  %-14s %10.1f  not recorded\n", step_cases[i].name, costs->of[i]);
            continue;
        }
        known++;
        ratio = costs->of[i] / before;
        if (ratio > bound) {
            verdict = "  TOO DEAR";
            dearer++;
        } else if (ratio < MUCH_LESS) {
            verdict = "  much less: record it";
        }
        printf("  %-14s %10.1f  recorded %10.1f  ratio %.3f  allowed %.2f%s\n", step_cases[i].name,
               costs->of[i], before, ratio, bound, verdict);
    }
    if (known == 0) {
        printf("skipped: nothing is recorded for this machine and compiler (--record does it)\n");
        return SKIP;
    }
    return dearer == 0 ? 0 : 1;
}

/* ---- All of it ---- */

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* glibc copies long pieces by one instruction that counts once a byte on some processors. */
static void pin_memcpy(char **argv)
{
    if (getenv("GLIBC_TUNABLES") == NULL) {
        setenv("GLIBC_TUNABLES",
               "glibc.cpu.x86_rep_movsb_threshold=1073741824:"
               "glibc.cpu.x86_rep_stosb_threshold=1073741824",
               1);
        execv("/proc/self/exe", argv);
    }
}

static bool is_instrumented(void)
{
#if defined(STEP_INSTRUMENTED) || !defined(__OPTIMIZE__)
    return true;
#else
    return false;
#endif
}

int main(int argc, char **argv)
{
    bool wants_record = false, wants_cpu = false;
    const char *path = NULL, *tmp = getenv("TMPDIR");
    char dir[4096], where[128];
    struct costs *costs;
    int code = 0;

    pin_memcpy(argv);
    for (int i = 1; i < argc; i++) {
        wants_record |= strcmp(argv[i], "--record") == 0;
        wants_cpu |= strcmp(argv[i], "--cpu") == 0;
        path = argv[i][0] == '-' ? path : argv[i];
    }
    if (path == NULL) {
        fprintf(stderr, "usage: step_cost [--record] [--cpu] BASELINE\n");
        return 2;
    }
    if (is_instrumented()) {
        printf("skipped: a build for other purposes\n");
        return SKIP;
    }
    costs = mmap(NULL, sizeof(*costs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(dir, sizeof(dir), "%s/step_cost.XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (costs == MAP_FAILED || mkdtemp(dir) == NULL) {
        fail(dir);
    }
    describe(where, sizeof(where));
    if (!wants_cpu && count_all(dir, costs)) {
        code = compare(path, "instructions", where, costs, BOUND_STEPS);
        if (wants_record) {
            record(path, "instructions", where, costs);
        }
    } else {
        nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        mkdir(dir, 0700);
        time_all(dir, costs);
        code = compare(path, "cpu", where, costs, BOUND_CPU);
        if (wants_record) {
            record(path, "cpu", where, costs);
        }
    }
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    munmap(costs, sizeof(*costs));
    return wants_record ? 0 : code;
}
