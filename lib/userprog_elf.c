/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What can be wrong with an object file before libbpf looks at it, each said in one sentence: no
 * ELF file, another machine's, no licence, no BTF. Trusts no number of the file.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "userprog.h"
#include "userprog_internal.h"

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define DATA_HERE ELFDATA2LSB
#else
#define DATA_HERE ELFDATA2MSB
#endif

static const char *machine_name(uint16_t machine, char buf[32])
{
	switch (machine) {
	case EM_X86_64:
		return "x86-64";
	case EM_AARCH64:
		return "arm64";
	case EM_386:
		return "x86";
	case EM_RISCV:
		return "RISC-V";
	default:
		snprintf(buf, 32, "machine %u", machine);
		return buf;
	}
}

/* A section's header, copied out of bytes that may be at any address; false: beyond the end. */
static bool section_get(const struct userprog_file *f, const Elf64_Ehdr *head, size_t i,
			Elf64_Shdr *out)
{
	size_t at;

	if (head->e_shentsize != sizeof(*out) || i >= head->e_shnum ||
	    __builtin_add_overflow(head->e_shoff, i * sizeof(*out), &at) || at > f->len ||
	    f->len - at < sizeof(*out))
		return false;
	memcpy(out, (const char *)f->bytes + at, sizeof(*out));
	return out->sh_type == SHT_NOBITS ||
	       (out->sh_offset <= f->len && out->sh_size <= f->len - out->sh_offset);
}

/* The section of that name; false: none, or it is broken. */
static bool section_find(const struct userprog_file *f, const Elf64_Ehdr *head, const char *name,
			 Elf64_Shdr *out)
{
	const char *bytes = f->bytes;
	Elf64_Shdr names;

	if (!section_get(f, head, head->e_shstrndx, &names) || names.sh_type == SHT_NOBITS)
		return false;
	for (size_t i = 1; i < head->e_shnum; i++) {
		if (!section_get(f, head, i, out))
			return false;
		if (out->sh_name < names.sh_size && !strncmp(bytes + names.sh_offset + out->sh_name,
							     name, names.sh_size - out->sh_name))
			return true;
	}
	return false;
}

bool userprog_elf_section(const struct userprog_file *f, const char *name, const void **data,
			  size_t *len)
{
	Elf64_Ehdr head;
	Elf64_Shdr s;

	memcpy(&head, f->bytes, sizeof(head));
	if (!section_find(f, &head, name, &s) || s.sh_type == SHT_NOBITS || !s.sh_size)
		return false;
	*data = (const char *)f->bytes + s.sh_offset;
	*len = s.sh_size;
	return true;
}

/* The next symbol of that name, from *at on, which is moved behind it. False: there is none. */
static bool symbol_find(const struct userprog_file *f, const char *name, size_t *at, Elf64_Sym *out)
{
	const void *symbols, *names;
	size_t symbols_len, names_len;

	if (!userprog_elf_section(f, ".symtab", &symbols, &symbols_len) ||
	    !userprog_elf_section(f, ".strtab", &names, &names_len))
		return false;
	while (symbols_len - *at >= sizeof(*out)) {
		memcpy(out, (const char *)symbols + *at, sizeof(*out));
		*at += sizeof(*out);
		if (out->st_name < names_len &&
		    !strncmp((const char *)names + out->st_name, name, names_len - out->st_name))
			return true;
	}
	return false;
}

bool userprog_elf_function(const struct userprog_file *f, const char *name, uint64_t *offset,
			   uint64_t *size)
{
	Elf64_Sym s;

	for (size_t at = 0; symbol_find(f, name, &at, &s);) {
		if (ELF64_ST_TYPE(s.st_info) != STT_FUNC)
			continue;
		*offset = s.st_value;
		*size = s.st_size;
		return true;
	}
	return false;
}

bool userprog_elf_is_weak(const struct userprog_file *f, const char *name)
{
	Elf64_Sym s;

	for (size_t at = 0; symbol_find(f, name, &at, &s);)
		if (ELF64_ST_BIND(s.st_info) == STB_WEAK)
			return true;
	return false;
}

static int check_sections(const struct userprog_file *f, const Elf64_Ehdr *head, char *err,
			  size_t err_len)
{
	const char *bytes = f->bytes;
	Elf64_Shdr s;

	if (!section_get(f, head, 0, &s)) {
		snprintf(err, err_len, "%s is cut off or damaged: its sections are not in it",
			 f->name);
		return -EINVAL;
	}
	if (!section_find(f, head, "license", &s) || s.sh_type == SHT_NOBITS || !s.sh_size ||
	    !bytes[s.sh_offset] || bytes[s.sh_offset + s.sh_size - 1]) {
		snprintf(err, err_len,
			 "%s states no licence; add: char _license[] SEC(\"license\") = \"GPL\";",
			 f->name);
		return -EINVAL;
	}
	if (!section_find(f, head, ".BTF", &s) || s.sh_type == SHT_NOBITS || !s.sh_size) {
		snprintf(err, err_len, "%s has no BTF (types); compile it with -g", f->name);
		return -EINVAL;
	}
	return 0;
}

int userprog_elf_check(const struct userprog_file *f, char *err, size_t err_len)
{
	Elf64_Ehdr head;
	char buf[32];

	if (f->len > USERPROG_OBJECT_MAX) {
		snprintf(err, err_len, "%s has %zu bytes; an object file may have %u", f->name,
			 f->len, USERPROG_OBJECT_MAX);
		return -E2BIG;
	}
	if (f->len < EI_NIDENT || memcmp(f->bytes, ELFMAG, SELFMAG)) {
		snprintf(err, err_len,
			 "%s is not an ELF file; it takes an object that clang has made, with "
			 "-target bpf -g -O2 -c",
			 f->name);
		return -EINVAL;
	}
	const unsigned char *ident = f->bytes;
	if (f->len < sizeof(head) || ident[EI_CLASS] != ELFCLASS64) {
		snprintf(err, err_len, "%s is not a 64-bit ELF file, as those for BPF are",
			 f->name);
		return -EINVAL;
	}
	if (ident[EI_DATA] != DATA_HERE) {
		snprintf(err, err_len,
			 "%s is for machines of the other byte order; compile it with -target bpf",
			 f->name);
		return -EINVAL;
	}
	memcpy(&head, f->bytes, sizeof(head));
	if (head.e_machine != EM_BPF) {
		snprintf(err, err_len, "%s is for %s and not for BPF; compile it with -target bpf",
			 f->name, machine_name(head.e_machine, buf));
		return -EINVAL;
	}
	if (head.e_type != ET_REL) {
		snprintf(err, err_len, "%s is no object file; compile it with -c", f->name);
		return -EINVAL;
	}
	return check_sections(f, &head, err, err_len);
}

int userprog_file_read(const char *path, struct userprog_file *f, void **bytes, char *err,
		       size_t err_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), res = fd < 0 ? -errno : 0;
	void *buf = malloc(USERPROG_OBJECT_MAX + 1);
	struct stat st = {};
	ssize_t n = -1;

	if (!res && (!buf || fstat(fd, &st)))
		res = -errno;
	if (!res && !S_ISREG(st.st_mode)) {
		snprintf(err, err_len, "cannot read %s: it is not a file", path);
		close(fd);
		free(buf);
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	}
	if (!res) {
		n = pread(fd, buf, USERPROG_OBJECT_MAX + 1, 0);
		res = n < 0 ? -errno : n ? 0 : -EINVAL;
	}
	if (fd >= 0)
		close(fd);
	if (!n)
		snprintf(err, err_len, "%s is empty", path);
	else if (res)
		snprintf(err, err_len, "cannot read %s: %s", path, strerror(-res));
	if (res) {
		free(buf);
		return res;
	}
	f->name = path;
	f->bytes = *bytes = buf;
	f->len = (size_t)n;
	return 0;
}
