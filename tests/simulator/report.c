/* report: see report.h. */
#include "tests/simulator/report.h"

#include <stdio.h>

void report_add(struct report_sum *sum, const struct run_report *report,
                const struct report_time *took)
{
    struct run_report *all = &sum->all;

    sum->n_seeds++;
    sum->took.wall_s += took->wall_s;
    sum->took.cpu_s += took->cpu_s;
    all->n_nodes += report->n_nodes;
    all->steps_us += report->steps_us;
    all->total_us += report->total_us;
    all->settle_us = report->settle_us > all->settle_us ? report->settle_us : all->settle_us;
    all->events += report->events;
    all->begun += report->begun;
    all->begun_in_steps += report->begun_in_steps;
    all->ok += report->ok;
    all->unknown += report->unknown;
    all->refused += report->refused;
    all->scans += report->scans;
    all->unknown_at_end += report->unknown_at_end;
    all->changes_ok += report->changes_ok;
    all->changes_unknown += report->changes_unknown;
    all->changes_refused += report->changes_refused;
    all->replicas_ok += report->replicas_ok;
    all->replicas_refused += report->replicas_refused;
    all->configurations += report->configurations;
    all->n_lost += report->n_lost;
    for (size_t i = 0; i < FAULT_N; i++) {
        all->faults[i] += report->faults[i];
    }
}

static uint64_t n_faults(const struct run_report *report)
{
    uint64_t n = 0;

    for (size_t i = 0; i < FAULT_N; i++) {
        n += i == FAULT_MOVES || i == FAULT_REPLICAS ? 0 : report->faults[i];
    }
    return n;
}

static double per(uint64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

static void show_number(const char *name, uint64_t value)
{
    printf(", \"%s\": %llu", name, (unsigned long long)value);
}

static void show_json(const struct run_report *report, const struct report_time *took)
{
    double steps_s = (double)report->steps_us / 1e6, total_s = (double)report->total_us / 1e6;

    show_number("nodes", report->n_nodes);
    printf(", \"simulated_s\": %.3f, \"steps_s\": %.3f, \"settle_s\": %.3f", total_s, steps_s,
           (double)report->settle_us / 1e6);
    show_number("events", report->events);
    show_number("operations", report->begun);
    show_number("ok", report->ok);
    show_number("unknown", report->unknown);
    show_number("refused", report->refused);
    show_number("scans", report->scans);
    show_number("unknown_at_end", report->unknown_at_end);
    show_number("changes", report->changes_ok);
    show_number("changes_unknown", report->changes_unknown);
    show_number("changes_refused", report->changes_refused);
    show_number("replica_changes", report->replicas_ok);
    show_number("replica_changes_refused", report->replicas_refused);
    show_number("configurations", report->configurations);
    show_number("lost", report->n_lost);
    show_number("faults", n_faults(report));
    for (size_t i = 0; i < FAULT_N; i++) {
        if (i != FAULT_MOVES && i != FAULT_REPLICAS) {
            show_number(fault_kinds[i].name, report->faults[i]);
        }
    }
    printf(", \"operations_per_s\": %.1f, \"faults_per_s\": %.2f",
           per(report->begun_in_steps, steps_s), per(n_faults(report), steps_s));
    printf(", \"wall_s\": %.3f, \"cpu_s\": %.3f, \"events_per_s\": %.0f, \"times_life\": %.0f}\n",
           took->wall_s, took->cpu_s, per(report->events, took->cpu_s),
           took->cpu_s > 0 ? total_s / took->cpu_s : 0);
}

static void show_text(const struct run_report *report, const struct report_time *took)
{
    double steps_s = (double)report->steps_us / 1e6, total_s = (double)report->total_us / 1e6;
    const char *comma = "";

    printf("%llu nodes, %.1f s simulated (settled in %.1f s), %llu events; operations: %llu ok, "
           "%llu unknown, %llu refused, %.1f a second; ",
           (unsigned long long)report->n_nodes, total_s, (double)report->settle_us / 1e6,
           (unsigned long long)report->events, (unsigned long long)report->ok,
           (unsigned long long)report->unknown, (unsigned long long)report->refused,
           per(report->begun_in_steps, steps_s));
    printf("%llu configurations; %.2f faults a second: (",
           (unsigned long long)report->configurations, per(n_faults(report), steps_s));
    for (size_t i = 0; i < FAULT_N; i++) {
        if (report->faults[i] > 0 && i != FAULT_MOVES) {
            printf("%s%s %llu", comma, fault_kinds[i].name, (unsigned long long)report->faults[i]);
            comma = ", ";
        }
    }
    printf("); %llu lost; %.2f s of a core, %.2f s in all, %.0f events a second, %.0f times faster "
           "than life\n",
           (unsigned long long)report->n_lost, took->cpu_s, took->wall_s,
           per(report->events, took->cpu_s), took->cpu_s > 0 ? total_s / took->cpu_s : 0);
}

void report_show_run(const struct run *run, const struct report_time *took, bool json)
{
    const char *profile = run->plan.profile->name;
    unsigned long long seed = run->plan.seed;

    if (json) {
        printf("{\"seed\": %llu, \"profile\": \"%s\"", seed, profile);
        show_json(&run->report, took);
    } else {
        printf("seed %llu, %s: ", seed, profile);
        show_text(&run->report, took);
    }
    fflush(stdout);
}

void report_show_sum(const struct report_sum *sum, const char *profile, bool json)
{
    unsigned long long n = sum->n_seeds;

    if (json) {
        printf("{\"seeds\": %llu, \"profile\": \"%s\"", n, profile);
        show_json(&sum->all, &sum->took);
    } else {
        printf("%llu seeds, %s: ", n, profile);
        show_text(&sum->all, &sum->took);
    }
}
