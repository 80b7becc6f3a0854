/* What the servers and the generator use. */
#ifndef BENCH_USAGE_H
#define BENCH_USAGE_H

/* Processor time of the server's processes in seconds, all threads. */
double server_cpu(const int *pids, int count);
/* Resident memory of the server's processes in KiB. */
double server_rss_kib(const int *pids, int count);
/* Processor time of the generator in seconds. */
double own_cpu(void);

#endif
