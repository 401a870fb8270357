/*
 * Lets User Mode Linux run on processors whose register state is larger than it knows, such as those with AMX.
 *
 * It moves the registers of its processes by ptrace(PTRACE_SETREGSET, NT_X86_XSTATE), with room for AVX-512. A host
 * kernel that knows a larger state refuses to set a part of it (EFAULT), and the machine ends when its first process
 * starts. This function comes before the one of the C library, and hands over the whole: what User Mode Linux has, and
 * zeros behind it, which is the state of what no process uses. (AMX needs a permission that nobody here asks for.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* More than any processor has today: AMX makes it 11 KiB. A kernel's stacks there are smaller than this. */
static char whole[64 * 1024];

typedef long ptrace_fn(enum __ptrace_request, pid_t, void *, void *);

/* How much the host wants to be given. */
static size_t wanted(ptrace_fn *next, pid_t pid, void *set)
{
	static size_t size;

	if (!size) {
		struct iovec all = { whole, sizeof(whole) };

		if (next(PTRACE_GETREGSET, pid, set, &all) == 0)
			size = all.iov_len;
		memset(whole, 0, sizeof(whole));
	}
	return size;
}

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_fn *next;
	va_list rest;

	va_start(rest, request);
	pid_t pid = va_arg(rest, pid_t);
	void *addr = va_arg(rest, void *);
	void *data = va_arg(rest, void *);
	va_end(rest);

	if (!next)
		next = (ptrace_fn *)dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && addr == (void *)NT_X86_XSTATE) {
		const struct iovec *given = data;
		size_t size = wanted(next, pid, addr);

		if (given->iov_len < size && size <= sizeof(whole)) {
			struct iovec all = { whole, size };

			memcpy(whole, given->iov_base, given->iov_len);
			return next(request, pid, addr, &all);
		}
	}
	return next(request, pid, addr, data);
}
