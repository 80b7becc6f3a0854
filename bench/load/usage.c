/* What the servers and the generator use: processor time and memory, from the system's accounting. */
#include "usage.h"

#include "ws.h"

#include <sys/resource.h>
#include <unistd.h>

/* utime + stime: proc(5), fields 14 and 15, in clock ticks. */
double server_cpu(const int *pids, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        char path[64], text[1024];
        snprintf(path, sizeof path, "/proc/%d/stat", pids[i]);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = 0;
        char *after_name = strrchr(text, ')');
        unsigned long long utime = 0, stime = 0;
        if (after_name)
            sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &utime, &stime);
        sum += (double)(utime + stime) / (double)sysconf(_SC_CLK_TCK);
    }
    return sum;
}

double server_rss_kib(const int *pids, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) {
        char path[64], line[256];
        snprintf(path, sizeof path, "/proc/%d/status", pids[i]);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        while (fgets(line, sizeof line, f)) {
            double kib;
            if (sscanf(line, "VmRSS: %lf", &kib) == 1) sum += kib;
        }
        fclose(f);
    }
    return sum;
}

double own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    long seconds = u.ru_utime.tv_sec + u.ru_stime.tv_sec, micros = u.ru_utime.tv_usec + u.ru_stime.tv_usec;
    return (double)seconds + (double)micros / 1e6;
}
