package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
)

var (
	// ErrNotFound: there is no attacker with this UUID.
	ErrNotFound = errors.New("attacker not found")
	// ErrConflict: the lease was lost before the update arrived.
	ErrConflict = errors.New("lease lost")
	// ErrLocked: another client of the database has locked what is to be written, and
	// keeps it locked. Trying again later helps.
	ErrLocked = errors.New("locked by another client")
	// ErrInvalid: the request itself makes no sense.
	ErrInvalid = errors.New("invalid request")
	// ErrSchema: the tables are not of a version this program can use.
	ErrSchema = errors.New("unusable schema")
)

// SaveError is returned by [Store.Save] when some of the updates of a call were
// not stored. The updates of every attacker that it does not name were.
type SaveError struct {
	// Failed has the reason for each attacker of which an update was not stored;
	// it wraps [ErrConflict] if the lease was lost. It is never empty.
	Failed map[uuid.UUID]error
}

// Error names the attacker and the reason. Of several failures it has the
// number, and the one with the lowest ID.
func (e *SaveError) Error() string {
	ids := e.ids()
	if len(ids) == 0 {
		return "no update failed"
	}
	text := fmt.Sprintf("attacker %s: %v", ids[0], e.Failed[ids[0]])
	if len(ids) > 1 {
		text = fmt.Sprintf("%d updates failed, the first of %s", len(ids), text)
	}
	return text
}

// Unwrap returns the reasons in order of attacker ID.
func (e *SaveError) Unwrap() []error {
	ids := e.ids()
	errs := make([]error, len(ids))
	for i, id := range ids {
		errs[i] = e.Failed[id]
	}
	return errs
}

func (e *SaveError) ids() []uuid.UUID {
	return slices.SortedFunc(maps.Keys(e.Failed), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
}

// ObserveError is returned by [Registrar.Observe] when it rejected some of the
// attackers of a call. The others were added.
type ObserveError struct {
	// Rejected has the reason for each rejected attacker, by its index in the
	// call; it wraps [ErrInvalid], or [ErrLocked] if trying again helps. It is never
	// empty.
	Rejected map[int]error
}

// Error has the number of rejected attackers, and the reason for the first.
func (e *ObserveError) Error() string {
	at := slices.Sorted(maps.Keys(e.Rejected))
	if len(at) == 0 {
		return "no attacker was rejected"
	}
	text := fmt.Sprintf("attacker %d: %v", at[0], e.Rejected[at[0]])
	if len(at) > 1 {
		text = fmt.Sprintf("%d attackers were rejected, the first of them %s", len(at), text)
	}
	return text
}

// Unwrap returns the reasons in order of index.
func (e *ObserveError) Unwrap() []error {
	var errs []error
	for _, at := range slices.Sorted(maps.Keys(e.Rejected)) {
		errs = append(errs, e.Rejected[at])
	}
	return errs
}

// Acceptable returns those of the attackers that [Registrar.Observe] accepts, with
// spaces and zones removed from their addresses, and an [*ObserveError] that names
// the others, if there are any. It changes nothing in attackers. Implementations
// of [Registrar] call it.
func Acceptable(attackers []Attacker) (accepted []Attacker, rejected error) {
	accepted = make([]Attacker, 0, len(attackers))
	var why map[int]error
	for i, a := range attackers {
		err := a.clean()
		if err == nil {
			accepted = append(accepted, a)
			continue
		}
		if why == nil {
			why = make(map[int]error)
		}
		why[i] = err
	}
	if why != nil {
		rejected = &ObserveError{Rejected: why}
	}
	return accepted, rejected
}

// clean removes spaces and the zone from the address, and returns an error if the
// attacker is not acceptable.
func (a *Attacker) clean() error {
	ip, _, _ := strings.Cut(strings.TrimSpace(a.IP), "%")
	switch _, err := provider.ParseAddr(ip); {
	case a.ID == uuid.Nil:
		return fmt.Errorf("%w: address %.60q has the zero UUID", ErrInvalid, a.IP)
	case err != nil:
		return fmt.Errorf("%w: %.60q of attacker %s is not an IP address", ErrInvalid, a.IP, a.ID)
	}
	a.IP = ip
	return nil
}

// Validate returns an error that wraps [ErrInvalid] if an entry's provider has no valid
// name (see [provider.ValidateName]), there are two entries of one provider, or a finding
// to be stored names no provider or no address. Implementations of [Store] call it in Save.
func (u *Update) Validate() error {
	for i := range u.Entries {
		e := &u.Entries[i]
		if err := provider.ValidateName(e.Provider); err != nil {
			return fmt.Errorf("%w: provider %w", ErrInvalid, err)
		}
		for j := range i {
			if u.Entries[j].Provider == e.Provider {
				return fmt.Errorf("%w: two entries of provider %q", ErrInvalid, e.Provider)
			}
		}
		if e.Finding == nil || !slices.Contains(u.Changed, e.Provider) {
			continue
		}
		if e.Finding.Provider == "" {
			return fmt.Errorf("%w: a finding of %s names no provider", ErrInvalid, e.Provider)
		}
		if !e.Finding.Addr.IsValid() {
			return fmt.Errorf("%w: a finding of %s names no address", ErrInvalid, e.Provider)
		}
	}
	return nil
}

// Validate returns an error that wraps [ErrInvalid] if the request is missing
// something.
func (r *ClaimRequest) Validate() error {
	switch {
	case r.Owner == "":
		return fmt.Errorf("%w: claim without an owner", ErrInvalid)
	case r.Lease <= 0:
		return fmt.Errorf("%w: claim with a lease of %v", ErrInvalid, r.Lease)
	case r.Horizon < 0:
		return fmt.Errorf("%w: claim with a horizon of %v", ErrInvalid, r.Horizon)
	case r.Limit <= 0:
		return fmt.Errorf("%w: claim with a limit of %d", ErrInvalid, r.Limit)
	case r.Now.IsZero():
		return fmt.Errorf("%w: claim without a time", ErrInvalid)
	}
	return nil
}
