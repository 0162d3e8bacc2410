/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The table. The first entry that fits counts: what is more particular stands first. Words are those of
 * 6.18; where 6.1 or older had others, an alternative of the pattern or a second entry has them.
 */
#include "verifier_explain.h"

const struct verifier_kind verifier_kinds[] = {
	/* ---- the packet ---- */
	{ "packet-moved", "^R([0-9]+) invalid mem access '(scalar|inv)'", WHEN_PACKET_MOVED,
	  "uses a packet pointer from before a call that can move the packet",
	  "a helper that changes the packet's size or pulls data may move it to other memory, so "
	  "all "
	  "pointers into the packet end with the call",
	  "after the call read data and data_end from the context again, and check the bounds "
	  "again" },
	{ "packet-offset",
	  "^invalid access to packet, off=(-?[0-9]+) size=([0-9]+), R([0-9]+)\\(.*r=([0-9]+)",
	  WHEN_VARIABLE,
	  "reads the packet at an offset that is not limited, so the check with data_end proves "
	  "nothing",
	  "an offset that the verifier does not know to be below 65536 could carry the pointer "
	  "past "
	  "data_end by overflow; a comparison with data_end does not count then",
	  "limit the number before it is added: offset &= 0xfff, or if (offset > 1500) return; the "
	  "limit must be on the variable that is added" },
	{ "packet-bounds",
	  "^invalid access to packet, off=(-?[0-9]+) size=([0-9]+), R([0-9]+)\\(.*r=([0-9]+)",
	  WHEN_ALWAYS,
	  "uses packet bytes from $1 on ($2 of them), and only the first $4 are proven to be there",
	  "the packet may end before: on the path that leads here no comparison with data_end "
	  "covers "
	  "these bytes",
	  "compare first: if ((void *)(header + 1) > data_end) return ...; or take headers by "
	  "<towpath/bpf/packet.h>, which does it" },
	{ "packet-bounds", "^R([0-9]+) offset is outside of the packet", WHEN_ALWAYS,
	  "reads or writes bytes that may be behind the end of the packet",
	  "on the path that leads here no comparison with data_end covers these bytes",
	  "compare first: if ((void *)(header + 1) > data_end) return ..." },
	{ "packet-read-only", "^cannot write into packet", WHEN_ALWAYS,
	  "writes to the packet, which programs of this type may only read",
	  "at this hook the packet is shared or already on its way: programs in cgroup_skb and "
	  "socket "
	  "sections only look",
	  "change packets in a tc or XDP program" },

	/* ---- NULL ---- */
	{ "global-function", "^R([0-9]+) invalid mem access '([a-z_]*)_or_null'", WHEN_FUNCTION,
	  "has a function that is not static and uses its pointer argument without a check for "
	  "NULL",
	  "functions that are not static are verified alone, for every argument that their types "
	  "allow: a pointer may be NULL, whatever the callers give",
	  "check the argument: if (!p) return 0; or make the function static, then it is verified "
	  "with "
	  "each caller's arguments" },
	{ "global-function", "^Caller passes invalid args into func#[0-9]+ \\('([^']+)'\\)",
	  WHEN_ALWAYS,
	  "calls $1(), which is not static, with arguments that its types do not promise",
	  "functions that are not static are verified alone, by the types of their arguments",
	  "pass what the prototype says, or make the function static" },
	{ "null-check", "^R([0-9]+) invalid mem access 'map_value_or_null'", WHEN_ALWAYS,
	  "uses what a map look-up found without a check for NULL",
	  "bpf_map_lookup_elem() gives NULL when there is no entry with that key; of an array too, "
	  "when "
	  "the index is too large",
	  "check first: if (!value) return ...; on every path that leads to the access" },
	{ "null-check", "^R([0-9]+) (invalid mem access|pointer arithmetic on) '?([a-z_]+)_or_null",
	  WHEN_ALWAYS, "uses a pointer that may be NULL",
	  "what gave the pointer can fail, and gives NULL then",
	  "check first: if (!pointer) return ...; on every path that leads to the access" },
	{ "null-argument", "^R([0-9]+) type=([a-z_]+)_or_null expected=(.*)", WHEN_ALWAYS,
	  "hands a pointer that may be NULL to a function that takes none",
	  "what gave the pointer can fail, and gives NULL then: a ring buffer may be full, a "
	  "look-up may "
	  "find nothing",
	  "check before the call: if (!pointer) return ..." },
	{ "null-argument", "^Possibly NULL pointer passed to (trusted|helper) arg([0-9]+)",
	  WHEN_ALWAYS, "hands a pointer that may be NULL to a function that takes none",
	  "what gave the pointer can fail, and gives NULL then",
	  "check before the call: if (!pointer) return ..." },

	/* ---- loops and size ---- */
	{ "endless-loop", "^infinite loop detected at insn ([0-9]+)", WHEN_ALWAYS,
	  "has a loop that comes back to where it was with nothing changed",
	  "one way through the loop changes nothing that its condition depends on, so it could go "
	  "on for "
	  "ever in the kernel",
	  "count: for (int i = 0; i < LIMIT; i++), with a constant limit that is tested on each "
	  "way "
	  "round; or bpf_loop() (Linux 5.17)" },
	{ "too-many-branches", "^The sequence of ([0-9]+) jumps is too complex", WHEN_ALWAYS,
	  "has more branches in a row than the verifier keeps in mind",
	  "each if in a loop is another way that has to be looked at later, and the verifier "
	  "remembers "
	  "8192 of them: a loop of many rounds with a condition in it is too much",
	  "lower the number of rounds, or give the body to bpf_loop() (Linux 5.17), which is "
	  "verified "
	  "once for all rounds" },
	{ "too-complex", "^BPF program is too large. Processed ([0-9]+) insn", WHEN_ALWAYS,
	  "takes more than 1 000 000 steps to verify",
	  "the verifier walks through loops round by round, and through each way that branches "
	  "open, "
	  "until nothing new can come: this program has more of both than it is ready to walk",
	  "lower the rounds of loops, or give their body to bpf_loop() (Linux 5.17), which is "
	  "verified "
	  "once; put parts into functions that are not static, which are verified once each; split "
	  "the "
	  "program by tail calls" },

	/* ---- stack and calls ---- */
	{ "stack-calls", "^combined stack size of ([0-9]+) calls is ([0-9]+)", WHEN_ALWAYS,
	  "needs $2 bytes of stack in $1 functions that call each other; there are 512",
	  "the stack of a function and of those that it calls count together, each rounded up",
	  "keep large data in a map of type BPF_MAP_TYPE_PERCPU_ARRAY with one entry, or call the "
	  "functions one after the other and not from within each other" },
	{ "tail-call-stack",
	  "^tail_calls are not allowed when call stack of previous frames is ([0-9]+)", WHEN_ALWAYS,
	  "makes a tail call from a function whose callers hold $1 bytes of stack; at most 256 may "
	  "be held",
	  "the program that the tail call leads to takes the function's place, and the callers' "
	  "stack "
	  "stays taken below it, for every tail call of a chain",
	  "make the tail call from the program itself, or keep the callers' data in a per-CPU "
	  "array" },
	{ "recursion", "^the call stack of ([0-9]+) frames is too deep", WHEN_RECURSION,
	  "has a function that calls itself",
	  "the stack is 512 bytes, so functions go at most 8 deep: there is no recursion",
	  "write it as a loop with a constant limit" },
	{ "recursion", "^back-edge from insn ([0-9]+) to ([0-9]+)", WHEN_RECURSION,
	  "has a function that calls itself",
	  "the stack is 512 bytes, so functions go at most 8 deep: there is no recursion",
	  "write it as a loop with a constant limit" },
	{ "endless-loop", "^back-edge from insn ([0-9]+) to ([0-9]+)", WHEN_ALWAYS,
	  "has a loop, which this kernel does not take", "loops need Linux 5.3 and CAP_BPF",
	  "unroll it: #pragma unroll before the loop" },
	{ "call-depth", "^the call stack of ([0-9]+) frames is too deep", WHEN_ALWAYS,
	  "has functions that call each other more than 8 deep",
	  "the program and the functions in one chain of calls may be 8",
	  "make small functions static __always_inline" },
	{ "core-field", "^failed to resolve CO-RE relocation <[a-z_]+> \\[[0-9]+\\] ([^(]+) \\(",
	  WHEN_ALWAYS, "uses $1, which this kernel does not have",
	  "the kernel's own types change from release to release; libbpf looked in this kernel's "
	  "BTF and "
	  "found no such field or type",
	  "see what there is: bpftool btf dump file /sys/kernel/btf/vmlinux format c; and ask "
	  "before use: "
	  "if (bpf_core_field_exists(...))" },
	{ "core-field", "^invalid func unknown#195896080|^<invalid CO-RE relocation>", WHEN_ALWAYS,
	  "uses a field or type that this kernel does not have",
	  "the kernel's own types change from release to release; libbpf looked in this kernel's "
	  "BTF and "
	  "found no such field or type",
	  "see what there is: bpftool btf dump file /sys/kernel/btf/vmlinux format c; and ask "
	  "before use: "
	  "if (bpf_core_field_exists(...))" },
	{ "map-value-size",
	  "^invalid (read from|write to|indirect access to) stack R([0-9]+) off=(-?[0-9]+) "
	  "size=([0-9]+)",
	  WHEN_VALUE_ARGUMENT,
	  "hands a helper a variable that is smaller than the map's key or value of $4 bytes",
	  "the helper copies as many bytes as the map was defined with, whatever the variable's "
	  "type",
	  "give the variable the type of the map's key or value" },
	{ "map-value-size",
	  "^invalid access to (map value|memory|map key), [a-z]+_size=([0-9]+) off=(-?[0-9]+) "
	  "size=([0-9]+)",
	  WHEN_VALUE_ARGUMENT,
	  "hands a helper $2 bytes where it takes the map's key or value of $4 bytes",
	  "the helper copies as many bytes as the map was defined with, whatever the pointer's "
	  "type",
	  "give the variable the type of the map's key or value" },
	{ "stack-bounds",
	  "^invalid (read from|write to|indirect access to) stack R([0-9]+) off=(-?[0-9]+) "
	  "size=([0-9]+)",
	  WHEN_ALWAYS,
	  "uses $4 bytes of stack at $3, which is not (all) within the variables that are there",
	  "an array on the stack is used behind its end or before its start; the stack reaches "
	  "from -512 "
	  "to 0",
	  "see the index or length against the array's size" },
	{ "stack-index", "^invalid (unbounded )?variable-offset .*stack R([0-9]+)", WHEN_ALWAYS,
	  "uses an array on the stack with an index that is not limited to its size",
	  "for the verifier the index can be anything that its type holds",
	  "limit it just before: if (i < sizeof(array) / sizeof(*array)), or i &= 7 for an array "
	  "of 8" },
	{ "unset-stack",
	  "^invalid (indirect )?read from stack (R[0-9]+ )?off (-?[0-9]+)\\+([0-9]+) size ([0-9]+)",
	  WHEN_ALWAYS, "reads $5 bytes of the stack at $3, of which byte $4 was never written",
	  "a variable, a field of a struct, or the gap that the compiler leaves between fields has "
	  "no "
	  "value; what lies there is the kernel's",
	  "set all of it before: __builtin_memset(&key, 0, sizeof(key)), then the fields" },
	{ "no-return-value", "^R0 !read_ok", WHEN_EXIT, "ends without a return value",
	  "r0 is the verdict, and one way through the program sets none",
	  "return a verdict of the hook on every way" },
	{ "unset-register", "^R([0-9]+) !read_ok", WHEN_ALWAYS, "uses r$1, which has no value here",
	  "a variable has no value on one way that leads here, or hand-written assembly reads a "
	  "register "
	  "that a call has destroyed (r1 to r5)",
	  "give the variable a value where it is declared" },

	/* ---- helpers and kfuncs ---- */
	{ "helper-not-here", "^(program of this type cannot use helper|unknown func) ([a-z0-9_]+)#",
	  WHEN_ALWAYS, "calls $2(), which programs of this type do not have",
	  "each program type has its own set of helpers, as not everything can be done at every "
	  "hook",
	  "use a helper of this type, or move the program to a hook whose type has it: man 7 "
	  "bpf-helpers, "
	  "https://docs.ebpf.io" },
	{ "helper-unknown", "^invalid func ([a-z0-9_]+)#([0-9]+)", WHEN_ALWAYS,
	  "calls helper number $2, which this kernel does not have",
	  "the helper came with a newer kernel, or the number is wrong",
	  "do without it here: if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_...)); or "
	  "say "
	  "which kernel the program needs" },
	{ "kfunc-not-here", "^calling kernel function ([a-zA-Z0-9_]+) is not allowed", WHEN_ALWAYS,
	  "calls the kernel's function $1(), which programs of this type may not",
	  "each kfunc is registered for some program types",
	  "use the one for this type, or move the program: https://docs.ebpf.io/linux/kfuncs" },
	{ "kfunc-unknown", "extern \\(func ksym\\) '([^']+)'.*not found in kernel or module BTFs",
	  WHEN_LOADER, "calls the kernel's function $1(), which this kernel does not have",
	  "kfuncs come and go with kernels and modules, and the name must be exactly that of the "
	  "kernel",
	  "declare it __ksym __weak, and ask before the call: if (bpf_ksym_exists($1))" },
	{ "kfunc-prototype",
	  "extern \\(func ksym\\) '([^']+)': func_proto \\[[0-9]+\\] incompatible", WHEN_LOADER,
	  "declares the kernel's function $1() otherwise than this kernel does",
	  "number and types of its arguments, or what it returns, differ",
	  "take the declaration from the kernel: bpftool btf dump file /sys/kernel/btf/vmlinux | "
	  "grep -A8 "
	  "$1" },
	{ "undefined-function",
	  "failed to find BTF (info )?for extern '([^']+)'|extern '([^']+)'.*not resolved",
	  WHEN_LOADER,
	  "calls a function or uses a variable that is declared and nowhere defined: $2$3",
	  "there is no library in the kernel: a program has helpers, kfuncs (declared with __ksym) "
	  "and "
	  "the functions of its own file",
	  "write the function in this file, or link the objects into one: bpftool gen object all.o "
	  "a.o b.o" },
	{ "licence", "^cannot call GPL-restricted function from non-GPL compatible program",
	  WHEN_ALWAYS, "calls a helper that is for programs under the GPL only",
	  "the kernel lets some helpers only to programs whose licence is compatible with the GPL",
	  "say so, if it is so: char LICENSE[] SEC(\"license\") = \"GPL\"; \"Dual BSD/GPL\" and "
	  "\"Dual "
	  "MIT/GPL\" count too" },
	{ "map-kind", "^cannot pass map_type ([0-9]+) into func ([a-z0-9_]+)#", WHEN_ALWAYS,
	  "hands $2() a map of a type that it does not take",
	  "each helper is for some types of maps: bpf_ringbuf_* for ring buffers, "
	  "bpf_perf_event_output() for perf event arrays, bpf_redirect_map() for devmap, cpumap "
	  "and xskmap",
	  "use the helper of this map's type, or define the map with the type that the helper "
	  "takes" },
	{ "released-twice",
	  "^R([0-9]+) type=(scalar|inv) expected=.*(sock|ptr_|ringbuf_mem|alloc_mem)",
	  WHEN_RELEASED, "releases something that it has released before",
	  "with the release the pointer ended: what is in the variable is a plain number now",
	  "release once, on each way; set the variable to NULL with the release when ways meet "
	  "again" },
	{ "helper-argument", "^R([0-9]+) type=([a-z_]+) expected=(.*)", WHEN_ALWAYS,
	  "hands a function as its argument $1 something of another kind: $2, and it takes $3",
	  "helpers that take a pointer take one that the verifier knows: to the stack (fp), a "
	  "map's value, "
	  "the packet; not a number that was made a pointer by a cast",
	  "copy the data into a variable and hand its address: &variable" },
	{ "helper-length", "^R([0-9]+) unbounded memory access, use 'var &= const'", WHEN_ALWAYS,
	  "hands a function a length that is not limited",
	  "the length must be known not to exceed the buffer, and can be anything that its type "
	  "holds",
	  "limit it just before: if (len > sizeof(buffer)) return ...; or len &= sizeof(buffer) - "
	  "1" },
	{ "helper-length",
	  "^R([0-9]+) min value is negative, either use unsigned or 'var &= const'", WHEN_ALWAYS,
	  "hands a function a length that can be negative",
	  "a signed number was checked against its upper limit only",
	  "make it unsigned, or also check that it is not below 0" },
	{ "zero-length", "^(R[0-9]+ )?invalid zero-sized read", WHEN_ALWAYS,
	  "hands a function a length that can be 0",
	  "this helper takes buffers of at least one byte, and nothing excludes a length of 0",
	  "exclude it just before: if (!len || len > sizeof(buffer)) return ...; before Linux 6.2 "
	  "by arithmetic: len = (len & 63) + 1" },
	{ "dynptr", "^Expected an initialized dynptr as arg #?([0-9]+)", WHEN_ALWAYS,
	  "uses a dynptr that was not made yet, or is no longer valid",
	  "a struct bpf_dynptr gets its meaning from bpf_dynptr_from_skb(), "
	  "bpf_ringbuf_reserve_dynptr() "
	  "and the like, and loses it with submit or discard",
	  "make it first, and check what that returned" },

	/* ---- references and locks ---- */
	{ "record-not-submitted", "^Unreleased reference id=([0-9]+) alloc_insn=([0-9]+)",
	  WHEN_RECORD,
	  "ends on one way with a ring-buffer record that was neither submitted nor discarded",
	  "a reserved record blocks the ring buffer for all that come after it until it is given "
	  "back",
	  "call bpf_ringbuf_submit() or bpf_ringbuf_discard() on every way, also before an early "
	  "return" },
	{ "reference-not-released", "^Unreleased reference id=([0-9]+) alloc_insn=([0-9]+)",
	  WHEN_ALWAYS, "ends on one way with something that it had taken and not given back",
	  "what a look-up took (a socket, a task, ...) is counted, and would never be freed",
	  "release it on every way, also before an early return: bpf_sk_release() for sockets" },
	{ "used-after-release", "^R([0-9]+) invalid mem access '(scalar|inv)'", WHEN_RELEASED,
	  "uses something after it was released, submitted or discarded",
	  "with that call the pointer ended: others may have the memory now",
	  "use it before, or copy what is needed later into a variable" },
	{ "release-of-nothing",
	  "^R([0-9]+) must be referenced when passed to release function|^arg [0-9]+ is an "
	  "unacquired reference",
	  WHEN_ALWAYS, "releases something that it never took",
	  "a pointer that a program reads from its context or a struct is borrowed: only what a "
	  "look-up or "
	  "acquire function returned is the program's to release",
	  "leave the release out" },
	{ "lock-held",
	  "^BPF_EXIT instruction in .* cannot be used inside bpf_spin_lock-ed "
	  "region|^bpf_spin_unlock is missing",
	  WHEN_ALWAYS, "ends on one way with the lock held",
	  "another CPU would wait for the lock for ever",
	  "call bpf_spin_unlock() on every way, before the return" },
	{ "lock-call", "^function calls are not allowed while holding a lock", WHEN_ALWAYS,
	  "calls a function while it holds a lock",
	  "between bpf_spin_lock() and bpf_spin_unlock() only memory may be read and written, so "
	  "that no "
	  "other CPU waits long",
	  "call it before the lock and keep the result in a variable" },

	/* ---- the context ---- */
	{ "section-mismatch", "^invalid bpf_context access off=([0-9]+) size=([0-9]+)",
	  WHEN_CONTEXT,
	  "is written for another hook than its section names: it takes struct $C, and this type "
	  "of "
	  "program gets struct $W",
	  "the section's name decides on the program type, and with it on the context; the field "
	  "at byte "
	  "$1 is not in it, and others would be read as something else",
	  "change the section to the hook that was meant, or the argument to struct $W *" },
	{ "context-write", "^invalid bpf_context access off=([0-9]+) size=([0-9]+)", WHEN_STORE,
	  "writes to the field at byte $1 of its context, which programs of this type may not "
	  "write",
	  "most fields of a context can only be read; which can be written depends on the program "
	  "type and "
	  "its hook",
	  "see what may be written at this hook: https://docs.ebpf.io/linux/program-type" },
	{ "context-field", "^invalid bpf_context access off=([0-9]+) size=([0-9]+)", WHEN_ALWAYS,
	  "reads the field at byte $1 of its context ($2 bytes), which programs of this type do "
	  "not have",
	  "several program types share one struct, and each has some of its fields; and a field is "
	  "read as a "
	  "whole, by its own size",
	  "see which fields there are at this hook: https://docs.ebpf.io/linux/program-type" },
	{ "context-pointer",
	  "^(variable ctx access var_off=|dereference of modified ctx ptr|negative offset ctx ptr)",
	  WHEN_ALWAYS, "reads its context at an offset that is not a constant",
	  "the kernel replaces each access to a field by code of its own, so it must know the "
	  "field when "
	  "the program is loaded",
	  "name the fields one by one, in a switch; helpers take the context itself, unchanged" },

	/* ---- map values and other memory ---- */
	{ "negative-index",
	  "^invalid access to (map value|memory), [a-z]+_size=([0-9]+) off=(-[0-9]+) size=([0-9]+)",
	  WHEN_ALWAYS, "uses memory of $2 bytes at $3, before its start",
	  "the index can be negative: a signed number was checked against its upper limit only",
	  "make the index unsigned, or also check that it is not below 0" },
	{ "negative-index", "^R([0-9]+) min value is negative, either use unsigned index",
	  WHEN_ALWAYS, "uses an index that can be negative",
	  "a signed number was checked against its upper limit only",
	  "make the index unsigned, or also check that it is not below 0" },
	{ "value-bounds",
	  "^invalid access to map (value|key), [a-z]+_size=([0-9]+) off=(-?[0-9]+) size=([0-9]+)",
	  WHEN_ALWAYS, "uses $4 bytes at $3 of a map's $1 of $2 bytes, past its end",
	  "the largest index that the checks let through is too large: often <= where < is meant, "
	  "or a limit "
	  "that is not the array's size",
	  "check against the array's size: if (i < sizeof(array) / sizeof(*array))" },
	{ "memory-bounds",
	  "^invalid access to memory, mem_size=([0-9]+) off=(-?[0-9]+) size=([0-9]+)", WHEN_ALWAYS,
	  "uses $3 bytes at $2 of memory of $1 bytes, past its end",
	  "a record of a ring buffer has the size that was reserved, and a function's argument the "
	  "size of "
	  "its type",
	  "reserve the size of what is written: bpf_ringbuf_reserve(&events, sizeof(*event), 0)" },
	{ "value-unbounded", "^R([0-9]+) unbounded memory access, make sure to bounds check",
	  WHEN_ALWAYS, "uses an array with an index that is not limited to its size",
	  "for the verifier the index can be anything that its type holds; a check of another "
	  "variable, or of "
	  "the same one before it was changed, does not count",
	  "limit it just before: if (i < sizeof(array) / sizeof(*array)), or i &= 15 for an array "
	  "of 16" },
	{ "read-only", "^write into map forbidden", WHEN_ALWAYS,
	  "writes to memory that is read-only for programs",
	  "const volatile variables, string literals and maps with BPF_F_RDONLY_PROG can be set "
	  "before the "
	  "program is loaded, and not by it",
	  "leave out const where the program must write" },
	{ "misaligned", "^misaligned ([a-z]+ )?access off .*size ([0-9]+)", WHEN_ALWAYS,
	  "reads or writes $2 bytes at an address that is no multiple of $2",
	  "on the stack and in structs of the kernel every access must be aligned; packed structs "
	  "and casts "
	  "of char arrays are not",
	  "copy bytes with __builtin_memcpy(), or order the struct's fields so that each is "
	  "aligned" },

	/* ---- pointers ---- */
	{ "kernel-pointer", "^R([0-9]+) invalid mem access '(scalar|inv)'", WHEN_TRACES,
	  "follows a pointer into the kernel as if it were its own",
	  "at this hook the kernel's pointers are plain numbers: nothing says that there is memory "
	  "behind "
	  "them",
	  "read by BPF_CORE_READ(pointer, field) or bpf_probe_read_kernel(); or use a tp_btf or "
	  "fentry "
	  "section, where pointers have types" },
	{ "not-a-pointer", "^R([0-9]+) invalid mem access '(scalar|inv)'", WHEN_ALWAYS,
	  "uses a number as an address",
	  "the verifier knows of no memory behind it: it was made a pointer by a cast, or a "
	  "pointer lost its "
	  "meaning by arithmetic or by being stored in memory that does not keep pointers",
	  "keep pointers in variables as they were given; kernel memory is read by "
	  "bpf_probe_read_kernel()" },
	{ "pointer-bits",
	  "^R([0-9]+) (32-bit pointer arithmetic|bitwise operator [^ ]+ on pointer|pointer "
	  "arithmetic with [^ ]+ operator) prohibited",
	  WHEN_ALWAYS, "does to a pointer what can only be done to a number",
	  "adding and subtracting is all that there is for pointers; an address is not a value to "
	  "compute "
	  "with",
	  "compute with the difference, which is a number: data_end - data" },
	{ "pointer-bits", "^math between ([a-z_]+) pointer and -?[0-9]+ is not allowed",
	  WHEN_ALWAYS, "adds a constant to a pointer that is too large to be an offset",
	  "offsets are below 536870912", "see the constant" },
	{ "pointer-arithmetic", "^R([0-9]+) pointer arithmetic on ([a-z_]+) prohibited",
	  WHEN_ALWAYS, "adds to or subtracts from a pointer of a kind that must stay as it is: $2",
	  "the end of the packet, a map, and a pointer that may be NULL cannot be moved",
	  "move the other side of the comparison: if (data + size > data_end)" },
	{ "pointer-arithmetic",
	  "^R([0-9]+) (pointer [-+]= pointer|tried to (add|subtract)|subtraction from stack "
	  "pointer|has (unknown scalar|pointer) with)",
	  WHEN_ALWAYS, "combines pointers in a way that gives no pointer",
	  "a pointer and a number can be added; two pointers cannot",
	  "compute the number first, then add it to the pointer" },
	{ "pointer-offset", "^math between ([a-z_]+) pointer and register with unbounded min value",
	  WHEN_ALWAYS, "adds a number to a pointer that may be any number, also a negative one",
	  "the verifier must know limits of what is added: for it the number can be anything that "
	  "its type "
	  "holds",
	  "limit it before it is added: n &= 0xff, or check both ends; unsigned types have one end "
	  "less" },
	{ "pointer-offset", "^value (-?[0-9]+) makes ([a-z_]+) pointer be out of bounds",
	  WHEN_ALWAYS, "moves a pointer by $1, which is too far", "offsets are below 536870912",
	  "limit the number before it is added" },
	{ "pointer-leak",
	  "^R([0-9]+) leaks addr|^leaking pointer|^attempt to (corrupt|leak)|pointer comparison "
	  "prohibited",
	  WHEN_ALWAYS, "lets an address of the kernel out: into a map, a packet or a return value",
	  "whoever loads without CAP_PERFMON may not learn kernel addresses",
	  "store what is meant to be seen, not the pointer; or load with CAP_PERFMON as well" },

	/* ---- what comes out ---- */
	{ "return-range", "^At program exit the register R0", WHEN_ALWAYS,
	  "returns a value that its hook does not know",
	  "cgroup programs return 1 to let pass and 0 to refuse; others have ranges of their own",
	  "return one of the values that the hook takes" },
	{ "callback-return", "^At (async )?callback return the register R0", WHEN_ALWAYS,
	  "has a callback that returns a value that its caller does not know",
	  "callbacks of bpf_loop() and bpf_for_each_map_elem() return 0 to go on and 1 to stop; "
	  "those of "
	  "timers 0",
	  "return 0 or 1" },
	{ "kernel-write", "^only read is supported", WHEN_ALWAYS,
	  "writes to a struct of the kernel",
	  "programs that trace may look at the kernel's structs and not change them",
	  "change packets in a tc or XDP program, sockets by bpf_setsockopt()" },

	/* ---- what libbpf refuses ---- */
	{ "section-name", "missing BPF prog type, check ELF section name '([^']*)'", WHEN_LOADER,
	  "is in a section whose name says nothing: $1",
	  "the section's name decides what a program is: SEC(\"xdp\"), SEC(\"tc\"), "
	  "SEC(\"cgroup_skb/egress\"), ...",
	  "see the spelling: https://docs.kernel.org/bpf/libbpf/program_types.html" },
	{ "map-definition", "map '([^']+)': failed to create: ([^(]+)", WHEN_LOADER,
	  "defines map $1 in a way that the kernel does not take ($2)",
	  "each type of map has rules for its key, value and max_entries",
	  "see the rules of the type: https://docs.ebpf.io/linux/map-type" },
	{ "attach-target", "failed to find kernel BTF type ID of '([^']+)'", WHEN_LOADER,
	  "is for the kernel's $1, which this kernel does not have",
	  "the name in the section is misspelt, or the function or tracepoint is of another "
	  "kernel, or of a "
	  "module that is not loaded",
	  "see what there is: grep $1 /proc/kallsyms; ls /sys/kernel/tracing/events" },
};

const size_t verifier_kind_count = sizeof(verifier_kinds) / sizeof(*verifier_kinds);
