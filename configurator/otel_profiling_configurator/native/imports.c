/* Functions that shared libraries import are replaced in their own tables of addresses, and put back: as memory profilers do with
 * `malloc` (memray, for one). The library that is called, and all others that call it, are left alone.
 */

#include "native.h"

#ifdef __linux__

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct Replaced {
    void *_Atomic *place;
    void *original, *ours;
} Replaced;

/* The parts of a library that are needed here. */
typedef struct {
    ElfW(Addr) base;
    const ElfW(Sym) *symbols;
    const char *names;
    size_t undefined;  /* symbols below this number may be imports; 0 if that is not known */
    const ElfW(Rela) *tables[2];
    size_t sizes[2];
} Library;

/* What the linker makes for a function that is called. Other places that hold its address are variables of the library's own. */
#if defined(__x86_64__)
#define IS_CALLED(type) ((type) == R_X86_64_GLOB_DAT || (type) == R_X86_64_JUMP_SLOT)
#elif defined(__aarch64__)
#define IS_CALLED(type) ((type) == R_AARCH64_GLOB_DAT || (type) == R_AARCH64_JUMP_SLOT)
#else
#define IS_CALLED(type) 0  /* so that nothing is found */
#endif

/* The number of the first symbol that the library defines: GNU's hash table has the others before it. */
static size_t
first_defined(const void *gnu_hash)
{
    return gnu_hash == NULL ? 0 : ((const uint32_t *)gnu_hash)[1];
}

static int
read_library(const struct dl_phdr_info *info, Library *library)
{
    *library = (Library){.base = info->dlpi_addr};
    const ElfW(Dyn) *entry = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            entry = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        }
    }
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        /* glibc has made these into addresses; musl leaves them as they are in the file. */
        const char *address = (const char *)entry->d_un.d_ptr;
        const char *moved = entry->d_un.d_ptr < info->dlpi_addr ? (const char *)info->dlpi_addr + entry->d_un.d_ptr : address;
        switch (entry->d_tag) {
            case DT_SYMTAB: library->symbols = (const void *)moved; break;
            case DT_STRTAB: library->names = moved; break;
            case DT_GNU_HASH: library->undefined = first_defined(moved); break;
            case DT_RELA: library->tables[0] = (const void *)moved; break;
            case DT_RELASZ: library->sizes[0] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
            case DT_JMPREL: library->tables[1] = (const void *)moved; break;
            case DT_PLTRELSZ: library->sizes[1] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
        }
    }
    return library->symbols != NULL && library->names != NULL;
}

/* Whether the page of a place has been made read-only after the library was loaded. Of the part that the linker names for that,
 * the C library leaves the last page alone if it is not a whole one. */
static int
is_read_only(const struct dl_phdr_info *info, const void *place)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part->p_vaddr, end = start + part->p_memsz;
        if (part->p_type == PT_GNU_RELRO && start / page <= (uintptr_t)place / page && (uintptr_t)place / page < end / page) {
            return 1;
        }
    }
    return 0;
}

/* Write an address; -1 where that is not allowed. A place is aligned, so that it is on one page. */
static int
write_address(const struct dl_phdr_info *info, void *_Atomic *place, void *address)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)place / page * page);
    if (mprotect(start, page, PROT_READ | PROT_WRITE) < 0) {  /* changes nothing where it may be written to */
        return -1;
    }
    atomic_store(place, address);
    if (is_read_only(info, (void *)place)) {
        mprotect(start, page, PROT_READ);
    }
    return 0;
}

static int
remember(Replacements *done, void *_Atomic *place, void *original, void *ours)
{
    if (done->count == done->room) {
        size_t room = done->room == 0 ? 16 : 2 * done->room;
        Replaced *items = realloc(done->items, room * sizeof *items);
        if (items == NULL) {
            return -1;
        }
        done->items = items;
        done->room = room;
    }
    done->items[done->count++] = (Replaced){place, original, ours};
    return 0;
}

static int
which_import(const char *name, const Import *imports, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        if (strcmp(name, imports[k].name) == 0) {
            return (int)k;
        }
    }
    return -1;
}

/* Whether a library may import one of them: its relocations may be very many. */
static int
may_import(const Library *library, const Import *imports, size_t count)
{
    if (library->undefined == 0) {
        return 1;  /* it has an older hash table, or none */
    }
    for (size_t i = 1; i < library->undefined; i++) {
        if (which_import(library->names + library->symbols[i].st_name, imports, count) >= 0) {
            return 1;
        }
    }
    return 0;
}

static int
replace(const struct dl_phdr_info *info, const Import *imports, size_t count, Replacements *done)
{
    Library library;
    int found = 0;
    if (!read_library(info, &library) || !may_import(&library, imports, count)) {
        return 0;
    }
    for (int table = 0; table < 2; table++) {
        for (size_t i = 0; library.tables[table] != NULL && i < library.sizes[table]; i++) {
            const ElfW(Rela) *entry = &library.tables[table][i];
            size_t symbol = ELF64_R_SYM(entry->r_info);
            if (symbol == 0 || !IS_CALLED(ELF64_R_TYPE(entry->r_info)) || entry->r_addend != 0
                || entry->r_offset % sizeof(void *) != 0) {
                continue;
            }
            int k = which_import(library.names + library.symbols[symbol].st_name, imports, count);
            if (k < 0) {
                continue;
            }
            void *_Atomic *place = (void *_Atomic *)(library.base + entry->r_offset);
            void *original = atomic_load(place);
            if (original == imports[k].ours) {
                found |= 1 << k;
                continue;
            }
            if (original == NULL || remember(done, place, original, imports[k].ours) < 0) {
                return -1;
            }
            if (write_address(info, place, imports[k].ours) < 0) {
                done->count--;
                return -1;
            }
            found |= 1 << k;
        }
    }
    return found;
}

static int
contains(const struct dl_phdr_info *info, const void *address)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (uintptr_t)address >= start
            && (uintptr_t)address < start + info->dlpi_phdr[i].p_memsz) {
            return 1;
        }
    }
    return 0;
}

typedef struct {
    const void *address;
    const Import *imports;
    size_t count;
    Replacements *done;
    int found;
    unsigned long long loaded;  /* libraries, by the loader's own count */
} Search;

static int
replace_in_one(struct dl_phdr_info *info, size_t size, void *argument)
{
    Search *search = argument;
    if (!contains(info, search->address)) {
        return 0;
    }
    if (contains(info, (const void *)Py_None)) {
        return 1;  /* the interpreter's own function, and whatever it imports is none of the agent's */
    }
    search->found = replace(info, search->imports, search->count, search->done);
    return 1;
}

int
imports_replace_in(const void *address, const Import *imports, size_t count, Replacements *done)
{
    Search search = {address, imports, count, done, 0, 0};
    dl_iterate_phdr(replace_in_one, &search);
    return search.found;
}

/* Libraries that have been looked at, by the addresses of their program headers: there are some hundred of them, and looking at
 * each again with every one that is loaded would take long. */
static struct {
    const void **headers;
    size_t count, room;
    unsigned long long loaded;  /* by the loader's own count */
} seen;

static int
is_new(const void *headers)
{
    for (size_t i = 0; i < seen.count; i++) {
        if (seen.headers[i] == headers) {
            return 0;
        }
    }
    if (seen.count == seen.room) {
        size_t room = seen.room == 0 ? 256 : 2 * seen.room;
        const void **grown = realloc(seen.headers, room * sizeof *grown);
        if (grown == NULL) {
            return 0;
        }
        seen.headers = grown;
        seen.room = room;
    }
    seen.headers[seen.count++] = headers;
    return 1;
}

static int
replace_in_new(struct dl_phdr_info *info, size_t size, void *argument)
{
    Search *search = argument;
    if (size >= offsetof(struct dl_phdr_info, dlpi_adds) + sizeof info->dlpi_adds) {
        if (info->dlpi_adds == seen.loaded) {
            return 1;  /* none since the last time */
        }
        search->loaded = info->dlpi_adds;
    }
    if (is_new(info->dlpi_phdr) && !contains(info, (const void *)replace_in_new)) {
        replace(info, search->imports, search->count, search->done);
    }
    return 0;
}

void
imports_replace_everywhere(const Import *imports, size_t count, Replacements *done)
{
    Search search = {NULL, imports, count, done, 0, seen.loaded};
    dl_iterate_phdr(replace_in_new, &search);
    seen.loaded = search.loaded;
}

void
imports_put_back_everywhere(Replacements *done)
{
    imports_put_back(done);
    seen.count = 0;
    seen.loaded = 0;
}

static int
put_back_in(struct dl_phdr_info *info, size_t size, void *argument)
{
    Replacements *done = argument;
    for (size_t i = 0; i < done->count; i++) {
        Replaced *one = &done->items[i];
        if (contains(info, (const void *)one->place) && atomic_load(one->place) == one->ours) {
            write_address(info, one->place, one->original);  /* where it is somebody else's by now, it stays */
        }
    }
    return 0;
}

void
imports_put_back(Replacements *done)
{
    dl_iterate_phdr(put_back_in, done);  /* what has been unloaded meanwhile is not found */
    free(done->items);
    *done = (Replacements){0};
}

#endif
