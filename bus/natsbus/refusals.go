package natsbus

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// How the server's errors about what it refuses begin. The first two go on with the
// subject in quotes.
const (
	refusedPublish   = "Permissions Violation for Publish to "
	refusedSubscribe = "Permissions Violation for Subscription to "
	refusedTooMany   = "maximum subscriptions exceeded"
)

// isAbout reports whether err says that the server refuses subject.
func isAbout(err error, kind, subject string) bool {
	if kind == refusedTooMany {
		return errors.Is(err, nats.ErrMaxSubscriptionsExceeded)
	}
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), kind+strconv.Quote(subject))
}

const (
	// maxRefusals is how many different refusals are remembered.
	maxRefusals = 1000
	// callbackTimeout is how long the NATS client may take to call back with an
	// error that it has noted, and sameTimeout with one that may be the same as the
	// one before: it is then not known whether there is any.
	callbackTimeout = 5 * time.Second
	sameTimeout     = 250 * time.Millisecond
)

// refusals are the errors that the NATS client called back with. It does so in the
// order in which the server sent them, and a little after it has noted the last.
type refusals struct {
	mu      sync.Mutex
	n       int                // how many errors there were
	err     error              // the last one
	last    map[string]refusal // the last error of each text
	changed chan struct{}      // closed at the next error, if not nil
}

// refusal is one of the errors, and its place among them.
type refusal struct {
	n   int
	err error
}

func (r *refusals) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || len(r.last) >= maxRefusals {
		r.last = make(map[string]refusal)
	}
	r.n++
	r.err, r.last[err.Error()] = err, refusal{r.n, err}
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

func (r *refusals) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// since returns an error of one of the kinds that is about subject and came after
// the first n. The client's last error was before at that time, and is what noted
// returns by now.
func (r *refusals) since(n int, before error, noted func() error, subject string, kinds []string) error {
	timeout := callbackTimeout
	if now := noted(); now == before {
		if !errors.Is(now, nats.ErrMaxSubscriptionsExceeded) || !slices.Contains(kinds, refusedTooMany) {
			return nil
		}
		timeout = sameTimeout
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		all, changed, err := r.look(n, noted, subject, kinds)
		if err != nil || all {
			return err
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		}
	}
}

// look returns what since does if it is there by now. If it is not, all says that
// every error has arrived, and otherwise changed is closed at the next one.
func (r *refusals) look(n int, noted func() error, subject string, kinds []string) (all bool, changed chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, refusal := range r.last {
		if refusal.n > n && slices.ContainsFunc(kinds, func(kind string) bool { return isAbout(refusal.err, kind, subject) }) {
			return true, nil, refusal.err
		}
	}
	if r.n > n && r.err == noted() {
		return true, nil, nil
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return false, r.changed, nil
}
