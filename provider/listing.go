package provider

import (
	"net/netip"
	"time"
)

// Listing is implemented by a provider that answers from a list which it replaces
// as a whole, see package feed. Find it with [As].
type Listing interface {
	Refresher

	// List returns how the list is. It is cheap to call.
	List() ListStatus

	// Changed returns the networks about which the provider may answer differently
	// than it did at an earlier version of the list, and the present version. The
	// version before anything was loaded is 0. Networks may repeat and overlap.
	Changed(since uint64) (networks []netip.Prefix, version uint64)

	// Settled takes note that all that follows from the changes up to a version has
	// been done. Until then a restart repeats those changes, as far as the list is
	// kept across restarts.
	Settled(version uint64)
}

// ListStatus is how a list is. The zero value says that it was never loaded.
type ListStatus struct {
	// Loaded tells whether there is a list. It may be empty.
	Loaded bool `json:"loaded"`
	// Rows is the number of networks in the list.
	Rows int `json:"rows"`
	// Skipped is the number of rows that were left out because they name no
	// network, or only special-purpose addresses.
	Skipped int `json:"skipped,omitempty"`
	// LoadedAt is when the list was last found to be current, in UTC.
	LoadedAt time.Time `json:"loaded_at,omitzero"`
	// ChangedAt is since when the rows of the list are as they are, in UTC.
	ChangedAt time.Time `json:"changed_at,omitzero"`
	// LastNonEmpty is when a current list last had a row, in UTC. A list that stays
	// empty may have been abandoned.
	LastNonEmpty time.Time `json:"last_nonempty,omitzero"`
	// NextLoad is when the list is due to be loaded again.
	NextLoad time.Time `json:"next_load,omitzero"`
	// FromSnapshot says that the list is the one that was kept across a restart, and
	// was not found to be current since.
	FromSnapshot bool `json:"from_snapshot,omitempty"`
	// Watched says that a file is watched: Refresh notices at once when it changes.
	Watched bool `json:"watched,omitempty"`
	// Stale says that the list is so old that it silences no other opinion.
	Stale bool `json:"stale,omitempty"`
	// Shrunk says that the last version was refused because it was much shorter.
	Shrunk bool `json:"shrunk,omitempty"`
	// Error says why the last attempt to load the list failed; empty if it did not.
	Error string `json:"error,omitempty"`
	// Unkept says why the list cannot be kept across restarts; empty if it can, or
	// is not supposed to.
	Unkept string `json:"unkept,omitempty"`
}

// Remarks says in words what an operator should know about the list. It returns none
// about a list that is loaded and current.
func (s *ListStatus) Remarks() (remarks []string) {
	remark := func(is bool, text string) {
		if is {
			remarks = append(remarks, text)
		}
	}
	remark(!s.Loaded && s.Error == "", "not loaded yet")
	remark(s.FromSnapshot, "kept from before the start, not checked since")
	remark(s.Stale, "old: it silences no other opinion")
	remark(s.Shrunk, "a new version was refused because it is much shorter")
	remark(s.Error != "", "error: "+s.Error)
	remark(s.Unkept != "", "it cannot be kept across restarts: "+s.Unkept)
	return remarks
}
