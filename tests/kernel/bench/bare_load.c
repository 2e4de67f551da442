// SPDX-License-Identifier: Apache-2.0
/*
 * What a load costs at the least: finit_module, and then a look at "transition" as often as the kernel crate looks, until
 * it is over. Nothing is checked before or after. Usage: bare_load FILE NAME
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char look(const char *path)
{
	char state = 0;
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return 0;
	if (read(file, &state, 1) != 1)
		state = 0;
	close(file);
	return state;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int count, char **words)
{
	char path[256];
	double begun;
	int file;

	if (count != 3)
		return 2;
	snprintf(path, sizeof(path), "/sys/kernel/livepatch/%s/transition", words[2]);
	file = open(words[1], O_RDONLY | O_CLOEXEC);
	if (file < 0 || syscall(SYS_finit_module, file, "", 0) != 0) {
		perror(words[1]);
		return 1;
	}
	begun = now();
	while (look(path) == '1') {
		/* 20 ms for two seconds, 100 ms after them. */
		struct timespec span = { .tv_nsec = now() - begun < 2 ? 20000000 : 100000000 };

		nanosleep(&span, NULL);
	}
	return look(path) == '0' ? 0 : 1;
}
