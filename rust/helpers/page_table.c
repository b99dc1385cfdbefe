// SPDX-License-Identifier: GPL-2.0-only
/* Page tables: entries for faults, and what walks find in them. */

#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pgalloc.h>
#include <linux/pgtable.h>
#include <linux/userfaultfd_k.h>

#include "helpers.h"

#ifndef VM_UFFD_RWP
/* Linux 7.2 names the bit by the only use that it has there. */
#define pte_uffd pte_uffd_wp
#define pte_mkuffd pte_mkuffd_wp
#define pte_clear_uffd pte_clear_uffd_wp
#endif

/*
 * Links the page table that core mm has allocated for a fault, so that
 * inserting a page at the fault's address needs no allocation. False if there
 * still is no page table.
 */
static __always_inline bool anon_rmap_vmf_install_page_table(struct vm_fault *vmf)
{
	struct mm_struct *mm = vmf->vma->vm_mm;
	spinlock_t *ptl;

	if (vmf->prealloc_pte) {
		ptl = pmd_lock(mm, vmf->pmd);
		if (pmd_none(pmdp_get(vmf->pmd))) {
			mm_inc_nr_ptes(mm);
			/* The table's zeroes must be seen before the table is. */
			smp_wmb();
			pmd_populate(mm, vmf->pmd, vmf->prealloc_pte);
			vmf->prealloc_pte = NULL;
		}
		spin_unlock(ptl);
	}
	return !pmd_none(pmdp_get_lockless(vmf->pmd));
}

/*
 * Locks the entry at the fault's address; NULL if there is no page table. To
 * be unlocked by anon_rmap_vmf_unlock_entry().
 */
static __always_inline pte_t *anon_rmap_vmf_lock_entry(const struct vm_fault *vmf, spinlock_t **ptl)
{
	pmd_t pmd;

	/* Page tables are freed after a grace period. */
	rcu_read_lock();
	pmd = pmdp_get_lockless(vmf->pmd);
	if (pmd_present(pmd) && !pmd_leaf(pmd)) {
		*ptl = pte_lockptr(vmf->vma->vm_mm, &pmd);
		spin_lock(*ptl);
		if (pmd_same(pmd, pmdp_get_lockless(vmf->pmd)))
			return pte_offset_kernel(&pmd, vmf->address);
		spin_unlock(*ptl);
	}
	rcu_read_unlock();
	return NULL;
}

static void anon_rmap_vmf_unlock_entry(spinlock_t *ptl)
{
	spin_unlock(ptl);
	rcu_read_unlock();
}

/*
 * The entry at the fault's address as it is now; an empty one if there is no page table. Whoever changes an entry takes it away
 * for a moment, with the page table locked (ptep_modify_prot_start()).
 */
static pte_t anon_rmap_vmf_entry(const struct vm_fault *vmf)
{
	pte_t *pte, entry = __pte(0);
	spinlock_t *ptl;

	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (pte) {
		entry = ptep_get(pte);
		anon_rmap_vmf_unlock_entry(ptl);
	}
	return entry;
}

/* Whether the entry at the fault's address says that the page was written since the last clear_refs. */
bool anon_rmap_vmf_is_soft_dirty(const struct vm_fault *vmf)
{
	pte_t entry = anon_rmap_vmf_entry(vmf);

	return pte_present(entry) && pte_soft_dirty(entry);
}

/* Whether entries of @vma need not become soft-dirty. */
static bool anon_rmap_is_all_soft_dirty(const struct vm_area_struct *vma)
{
	return !pgtable_supports_soft_dirty() || (vma->vm_flags & VM_SOFTDIRTY);
}

/* Whether entries of @vma can be writable before they are written: unless somebody wants to know of the first write. */
static bool anon_rmap_may_write_unseen(struct vm_area_struct *vma)
{
	return (vma->vm_flags & VM_WRITE) && !userfaultfd_wp(vma);
}

static bool anon_rmap_is_empty(struct vm_area_struct *vma, pte_t entry)
{
	return pte_none(entry);
}

/* Whether @entry, which is read-only, can be writable before it is written. */
static bool anon_rmap_is_written_unseen(struct vm_area_struct *vma, pte_t entry)
{
	return pte_present(entry) && !pte_protnone(entry) && !pte_write(entry) && !pte_uffd(entry) &&
	       anon_rmap_may_write_unseen(vma) && (anon_rmap_is_all_soft_dirty(vma) || pte_soft_dirty(entry));
}

static __always_inline unsigned long anon_rmap_vmf_entries(const struct vm_fault *vmf, unsigned long address, unsigned int nr,
							   bool (*is)(struct vm_area_struct *vma, pte_t entry))
{
	unsigned long found = 0;
	pmd_t pmd;
	pte_t *pte;

	rcu_read_lock();
	pmd = pmdp_get_lockless(vmf->pmd);
	if (pmd_present(pmd) && !pmd_leaf(pmd)) {
		pte = pte_offset_kernel(&pmd, address);
		for (unsigned int i = 0; i < nr; i++)
			if (is(vmf->vma, ptep_get_lockless(pte + i)))
				found |= BIT(i);
	}
	rcu_read_unlock();
	return found;
}

/*
 * Which of the @nr entries from that of @address on are empty just now, as a bit
 * set. All are in the page table of the fault's address; none is empty if there
 * is none. One that somebody is changing can be said to be.
 */
unsigned long anon_rmap_vmf_empty_entries(const struct vm_fault *vmf, unsigned long address, unsigned int nr)
{
	return anon_rmap_vmf_entries(vmf, address, nr, anon_rmap_is_empty);
}

/* As anon_rmap_vmf_empty_entries(): for which of them anon_rmap_vmf_make_writable() can do something. */
unsigned long anon_rmap_vmf_read_only_entries(const struct vm_fault *vmf, unsigned long address, unsigned int nr)
{
	return anon_rmap_vmf_entries(vmf, address, nr, anon_rmap_is_written_unseen);
}

/*
 * Takes a marker of userfaultfd's write-protection out of the entry at the
 * fault's address, for a page to take its place; false if there was none.
 */
static bool anon_rmap_vmf_take_uffd_wp(const struct vm_fault *vmf)
{
	bool taken = false;
	spinlock_t *ptl;
	pte_t *pte;

	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (!pte)
		return false;
	taken = pte_is_uffd_wp_marker(ptep_get(pte));
	if (taken)
		pte_clear(vmf->vma->vm_mm, vmf->address, pte);
	anon_rmap_vmf_unlock_entry(ptl);
	return taken;
}

/*
 * As set_pte_at(), for a page of the device, or that of zeroes. On arm64 that could need a function that is not exported, for pages with
 * tags (MTE): the device has none.
 */
static void anon_rmap_set_entry(struct vm_area_struct *vma, unsigned long address, pte_t *pte, pte_t entry)
{
#ifdef CONFIG_ARM64
	page_table_check_ptes_set(vma->vm_mm, address, pte, entry, 1);
	if (pte_user_exec(entry) && !pte_special(entry))
		__sync_icache_dcache(entry);
	set_pte(pte, entry);
#else
	set_pte_at(vma->vm_mm, address, pte, entry);
#endif
}

#ifndef CONFIG_X86
#define pte_clear_saveddirty(pte) (pte)
#endif

/* A writable entry; for pte_mkwrite(), which knows of shadow stacks, too, but is not exported (on x86). */
static pte_t anon_rmap_pte_mkwrite(pte_t pte)
{
	return pte_clear_saveddirty(pte_mkwrite_novma(pte));
}

/* An entry that was written through; for maybe_mkwrite(). */
static pte_t anon_rmap_pte_write(pte_t pte, const struct vm_area_struct *vma)
{
	pte = pte_mkyoung(pte);
	if (vma->vm_flags & VM_WRITE)
		pte = anon_rmap_pte_mkwrite(pte);
	return pte_mkdirty(pte);
}

/*
 * Makes the entry at the fault's address, of @page, writable and dirty if @write,
 * and say the rest. Returns 0 if no page is mapped there, else the fault's result.
 */
static vm_fault_t anon_rmap_vmf_change_entry(const struct vm_fault *vmf, struct page *page, bool write,
					     bool soft_dirty, bool uffd_wp)
{
	struct vm_area_struct *vma = vmf->vma;
	vm_fault_t result = 0;
	pte_t *pte, entry;
	spinlock_t *ptl;

	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (!pte)
		return 0;
	entry = ptep_get(pte);
	if (pte_present(entry)) {
		if (soft_dirty)
			entry = pte_mksoft_dirty(entry);
		if (uffd_wp)
			entry = pte_mkuffd(pte_wrprotect(entry));
		else if (write && !(pte_uffd(entry) && userfaultfd_wp(vma)))
			entry = anon_rmap_pte_write(pte_clear_uffd(entry), vma);
		result = VM_FAULT_SIGBUS;
		if (!WARN_ON_ONCE(pte_pfn(entry) != page_to_pfn(page))) {
			/* Other processors may have the old entry: they fault, and find this one. */
			anon_rmap_set_entry(vma, vmf->address, pte, entry);
			/* Ours may have it, too, where a fault does not drop it. */
			flush_tlb_fix_spurious_fault(vma, vmf->address, pte);
			result = VM_FAULT_NOPAGE;
		}
	}
	anon_rmap_vmf_unlock_entry(ptl);
	return result;
}

/*
 * Whether somebody can put a marker into an empty entry of @vma while the current
 * task handles a fault there: another thread (MADV_GUARD_INSTALL), or who has a
 * userfaultfd.
 */
static bool anon_rmap_may_get_marker(struct vm_area_struct *vma)
{
	return current->mm != vma->vm_mm || atomic_read(&vma->vm_mm->mm_users) > 1 || userfaultfd_armed(vma);
}

/*
 * Maps @page at the fault's address, writable and dirty if @write, and marked as
 * written (soft-dirty) if that or @soft_dirty. The caller sees to it that
 * nothing else is mapped there.
 *
 * Core mm puts markers into empty entries at any time. One of a guard page
 * stays: the access is made again, and core mm ends it. One of userfaultfd's
 * write-protection goes on as a bit of the entry, as in finish_fault(); then the
 * entry stays read-only, and core mm resolves the write when it is made again.
 * Where there can be a marker, a writable entry is made in two steps, as
 * vmf_insert_page_mkwrite() would warn of it; and where the page may be mapped
 * already, as that would make the entry neither dirty nor soft-dirty.
 *
 * Without a page table the access is made again, too: core mm has allocated one
 * without our locks, where there was none.
 */
vm_fault_t anon_rmap_vmf_insert_page(struct vm_fault *vmf, struct page *page, bool write, bool soft_dirty)
{
	vm_fault_t result;
	bool uffd_wp;

	if (!anon_rmap_vmf_install_page_table(vmf))
		return VM_FAULT_NOPAGE;
	/* As page_mkwrite() finds it, unless somebody has zapped it right now. */
	if (vmf->page == page) {
		result = anon_rmap_vmf_change_entry(vmf, page, write, soft_dirty, false);
		if (result)
			return result;
	}
	if (write && !folio_mapped(page_folio(page)) && !anon_rmap_may_get_marker(vmf->vma))
		return vmf_insert_page_mkwrite(vmf, page, true);
	uffd_wp = userfaultfd_wp(vmf->vma) && anon_rmap_vmf_take_uffd_wp(vmf);
	result = vmf_insert_page_mkwrite(vmf, page, false);
	if (result == VM_FAULT_NOPAGE && (uffd_wp || write || soft_dirty))
		return anon_rmap_vmf_change_entry(vmf, page, write, soft_dirty, uffd_wp) ?: VM_FAULT_NOPAGE;
	return result;
}

/*
 * Whether the page of zeroes that all share may stand for the memory at the
 * fault's address, which nobody has written. Not for who wants to have memory
 * from then on: populate_vma_page_range() (MAP_POPULATE, mlock) comes without
 * all of these flags.
 */
bool anon_rmap_vmf_may_map_zeroes(const struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;

	return (vmf->flags & (FAULT_FLAG_USER | FAULT_FLAG_REMOTE | FAULT_FLAG_INTERRUPTIBLE)) &&
	       !(vma->vm_flags & VM_LOCKED) && !userfaultfd_wp(vma) && !mm_forbids_zeropage(vma->vm_mm);
}

/*
 * Whether a page that nobody else has may be mapped writable at the fault's
 * address before it is written: in memory that is locked and so is there from
 * the start, as for anonymous memory. Elsewhere mlock() and MAP_POPULATE look
 * like vmsplice(), whose reader must not see what is written later.
 */
bool anon_rmap_vmf_may_map_writable(const struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;

	return (vma->vm_flags & (VM_LOCKED | VM_LOCKONFAULT)) == VM_LOCKED &&
	       anon_rmap_may_write_unseen(vma) && anon_rmap_is_all_soft_dirty(vma);
}

/*
 * Makes the entry at the fault's address writable, if it maps @page, which
 * nobody else has, and nobody wants to know of the first write; whether it did.
 */
bool anon_rmap_vmf_make_writable(const struct vm_fault *vmf, const struct page *page)
{
	struct vm_area_struct *vma = vmf->vma;
	pte_t *pte, entry;
	spinlock_t *ptl;
	bool may;

	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (!pte)
		return false;
	entry = ptep_get(pte);
	may = anon_rmap_is_written_unseen(vma, entry) && pte_pfn(entry) == page_to_pfn(page);
	if (may)
		anon_rmap_set_entry(vma, vmf->address, pte, anon_rmap_pte_mkwrite(entry));
	anon_rmap_vmf_unlock_entry(ptl);
	return may;
}

/*
 * Maps the page of zeroes at the fault's address, if nothing is there, as
 * do_anonymous_page() does: to core mm it is no page of the VMA, so it counts
 * for nobody, and a write comes to pfn_mkwrite().
 */
void anon_rmap_vmf_map_zeroes(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	spinlock_t *ptl;
	pte_t *pte;

	if (!anon_rmap_vmf_install_page_table(vmf))
		return;
	pte = anon_rmap_vmf_lock_entry(vmf, &ptl);
	if (!pte)
		return;
	if (pte_none(ptep_get(pte)))
		anon_rmap_set_entry(vma, vmf->address, pte,
				    pte_mkspecial(pfn_pte(zero_pfn(vmf->address), vma->vm_page_prot)));
	anon_rmap_vmf_unlock_entry(ptl);
}

/* Whether the page of zeroes is mapped at the fault's address. */
bool anon_rmap_vmf_maps_zeroes(const struct vm_fault *vmf)
{
	pte_t entry = anon_rmap_vmf_entry(vmf);

	return pte_present(entry) && is_zero_pfn(pte_pfn(entry));
}

/*
 * The entry of @mm's page tables for @address, locked; NULL if there is no
 * page table, and then *@end is where the next one may begin. To be unlocked by
 * anon_rmap_unlock_entry().
 *
 * The caller sees to it that the upper page tables stay. The lowest one can go
 * when it is empty, but is freed by RCU.
 */
static pte_t *anon_rmap_lock_entry(struct mm_struct *mm, unsigned long address, unsigned long *end, spinlock_t **ptl)
{
	pgd_t *pgd;
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd, pmdval;

	pgd = pgd_offset(mm, address);
	if (!pgd_present(pgdp_get(pgd))) {
		*end = (address & PGDIR_MASK) + PGDIR_SIZE;
		return NULL;
	}
	p4d = p4d_offset(pgd, address);
	if (!p4d_present(p4dp_get(p4d))) {
		*end = (address & P4D_MASK) + P4D_SIZE;
		return NULL;
	}
	pud = pud_offset(p4d, address);
	if (!pud_present(pudp_get(pud)) || pud_leaf(pudp_get(pud))) {
		*end = (address & PUD_MASK) + PUD_SIZE;
		return NULL;
	}
	*end = (address & PMD_MASK) + PMD_SIZE;
	pmd = pmd_offset(pud, address);

	rcu_read_lock();
	pmdval = pmdp_get_lockless(pmd);
	if (!pmd_present(pmdval) || pmd_leaf(pmdval) || pmd_bad(pmdval))
		goto out;
	*ptl = pte_lockptr(mm, &pmdval);
	spin_lock(*ptl);
	if (pmd_same(pmdval, pmdp_get_lockless(pmd)))
		return pte_offset_kernel(&pmdval, address);
	spin_unlock(*ptl);
out:
	rcu_read_unlock();
	return NULL;
}

static void anon_rmap_unlock_entry(spinlock_t *ptl)
{
	spin_unlock(ptl);
	rcu_read_unlock();
}

/*
 * Whether the page table of @mm maps frame @pfn at @address; if so, whether the
 * entry is soft-dirty. The caller sees to it that the upper page tables stay.
 */
bool anon_rmap_maps_pfn(struct mm_struct *mm, unsigned long address, unsigned long pfn, bool *soft_dirty)
{
	unsigned long end;
	spinlock_t *ptl;
	bool found;
	pte_t *pte;

	pte = anon_rmap_lock_entry(mm, address, &end, &ptl);
	if (!pte)
		return false;
	found = pte_present(ptep_get(pte)) && pte_pfn(ptep_get(pte)) == pfn;
	*soft_dirty = found && pte_soft_dirty(ptep_get(pte));
	anon_rmap_unlock_entry(ptl);
	return found;
}

/*
 * Makes the entry of @mm's page table at @address soft-dirty, if it maps frame
 * @pfn. The caller holds the mmap lock.
 */
void anon_rmap_set_soft_dirty(struct mm_struct *mm, unsigned long address, unsigned long pfn)
{
	unsigned long end;
	spinlock_t *ptl;
	pte_t *pte, entry;

	/* Where nothing ever is, an entry need not be read-only. */
	if (!pgtable_supports_soft_dirty())
		return;
	pte = anon_rmap_lock_entry(mm, address, &end, &ptl);
	if (!pte)
		return;
	entry = ptep_get(pte);
	/* What is not soft-dirty is read-only, so that the processor does not make it dirty meanwhile. */
	if (pte_present(entry) && pte_pfn(entry) == pfn && !pte_soft_dirty(entry))
		set_pte(pte, pte_mksoft_dirty(entry));
	anon_rmap_unlock_entry(ptl);
}

/* Whether entries of @mm that were cleared can still be in a TLB. To be asked after a look at the entry, see there. */
bool anon_rmap_tlb_flush_pending(struct mm_struct *mm)
{
	return mm_tlb_flush_pending(mm);
}

/* The frame that is mapped where private memory was read and never written. */
unsigned long anon_rmap_zero_pfn(void)
{
	return page_to_pfn(ZERO_PAGE(0));
}

static enum anon_rmap_entry anon_rmap_entry_kind(pte_t pte)
{
	softleaf_t entry;

	if (pte_none(pte))
		return ANON_RMAP_ENTRY_NONE;
	if (pte_present(pte))
		return is_zero_pfn(pte_pfn(pte)) ? ANON_RMAP_ENTRY_ZEROES : ANON_RMAP_ENTRY_PAGE;
	entry = softleaf_from_pte(pte);
	if (softleaf_is_guard_marker(entry) || softleaf_is_uffd_wp_marker(entry))
		return ANON_RMAP_ENTRY_KNOWN_MARKER;
	return ANON_RMAP_ENTRY_UNKNOWN;
}

/*
 * The address of the first entry from @address on that is not empty, with its
 * kind, and the frame if it maps one. If there is none before @end, or in what
 * can be looked at in a bounded time, the kind is that of an empty entry, and
 * the address where to go on. Page tables as for anon_rmap_maps_pfn().
 */
unsigned long anon_rmap_next_entry(struct mm_struct *mm, unsigned long address, unsigned long end,
				   enum anon_rmap_entry *kind, unsigned long *pfn)
{
	unsigned long table_end;
	spinlock_t *ptl;
	pte_t *pte;

	*kind = ANON_RMAP_ENTRY_NONE;
	for (int tables = 0; address < end && tables < PTRS_PER_PMD; tables++) {
		pte = anon_rmap_lock_entry(mm, address, &table_end, &ptl);
		if (!pte) {
			/* Zero at the end of all addresses. */
			address = min(table_end - 1, end - 1) + 1;
			continue;
		}
		for (; address < min(table_end, end); address += PAGE_SIZE, pte++) {
			*kind = anon_rmap_entry_kind(ptep_get(pte));
			if (*kind != ANON_RMAP_ENTRY_NONE) {
				*pfn = pte_pfn(ptep_get(pte));
				break;
			}
		}
		anon_rmap_unlock_entry(ptl);
		if (*kind != ANON_RMAP_ENTRY_NONE)
			break;
	}
	return address;
}
