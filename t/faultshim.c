/*
 * faultshim.c: loaded into a test server by LD_PRELOAD (fault_library() of WfTest.pm): moves its wall clock while it runs,
 * and makes an fdatasync fail.
 *
 * The file that WF_FAULTS names is mapped by every process of the server: microseconds to add to the clock, then how many
 * calls of fdatasync from now the one that fails is (0: none).  The monotonic clock, by which the server sleeps, stays.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct faults
{
	volatile int64_t clock_us;
	volatile int64_t sync_countdown;
};

static struct faults none;
static struct faults *faults = &none;

__attribute__((constructor)) static void
map_file(void)
{
	const char *path = getenv("WF_FAULTS");
	int			fd = path != NULL ? open(path, O_RDWR) : -1;
	void	   *mapped;

	if (fd < 0)
		return;
	mapped = mmap(NULL, sizeof(struct faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped != MAP_FAILED)
		faults = mapped;
	close(fd);
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	static int	(*next) (clockid_t, struct timespec *);
	int			result;

	if (next == NULL)
		next = dlsym(RTLD_NEXT, "clock_gettime");
	result = next(clock, ts);
	if (result == 0 && clock == CLOCK_REALTIME)
	{
		ts->tv_sec += faults->clock_us / 1000000;
		ts->tv_nsec += faults->clock_us % 1000000 * 1000;
	}
	return result;
}

int
fdatasync(int fd)
{
	static int	(*next) (int);

	if (next == NULL)
		next = dlsym(RTLD_NEXT, "fdatasync");
	if (faults->sync_countdown > 0 && __atomic_sub_fetch(&faults->sync_countdown, 1, __ATOMIC_SEQ_CST) == 0)
	{
		errno = EIO;
		return -1;
	}
	return next(fd);
}
