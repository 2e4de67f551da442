// The program of a pod's sandbox: waits to be killed. Freestanding, so that the image is a few kilobytes.
void _start(void)
{
	for (;;) {
		long result;
		// pause(2) is number 34 on x86-64.
		__asm__ volatile("syscall" : "=a"(result) : "a"(34L) : "rcx", "r11", "memory");
	}
}
