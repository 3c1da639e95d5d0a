package providertest

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/decnet/enrich/provider"
)

// checkName checks that the name is valid and stays.
func checkName(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	name := r.p.Name()
	if err := provider.ValidateName(name); err != nil {
		tb.Errorf("Name: %v", err)
	}
	r.must(tb, r.known)
	if again := r.p.Name(); again != name {
		tb.Errorf("Name was %q before a lookup and is %q after it", name, again)
	}
	if other := newRig(tb, h).p.Name(); other != name {
		tb.Errorf("two providers made alike have the names %q and %q", name, other)
	}
}

// checkLimits checks that declared limits make sense and stay.
func checkLimits(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	limited, ok := provider.As[provider.Limited](r.p)
	if !ok {
		tb.Skip("the provider declares no limits")
	}
	limits := limited.Limits()
	if err := limits.Validate(); err != nil {
		tb.Errorf("Limits: %v", err)
	}
	r.must(tb, r.known)
	if again := limited.Limits(); !reflect.DeepEqual(again, limits) {
		tb.Errorf("Limits were %+v before a lookup and are %+v after it", limits, again)
	}
}

// checkKnown checks the finding about an address that the provider has.
func checkKnown(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	f := r.must(tb, r.known)
	checkFinding(tb, r, f, r.known)
	if r.Known.IsValid() && !f.Known {
		tb.Errorf("Lookup(%v): Known is false; the address is one the provider has", r.known)
	}
	if r.played() && f.Verdict != provider.Malicious {
		tb.Errorf("Lookup(%v): verdict %q; the source calls the address malicious", r.known, f.Verdict)
	}
}

// checkNotKnown checks that absence is no error and no innocence.
func checkNotKnown(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	if !r.Unknown.IsValid() {
		tb.Skip("Harness.Unknown is not set")
	}
	f, err := r.ask(tb.Context(), r.Unknown)
	if err != nil {
		tb.Fatalf("Lookup(%v): %v; not to be known is not an error", r.Unknown, err)
	}
	checkFinding(tb, r, f, r.Unknown)
	if f.Known {
		tb.Errorf("Lookup(%v): Known is true; the address is one the provider does not have", r.Unknown)
	}
	if f.Verdict > provider.Unknown {
		tb.Errorf("Lookup(%v): verdict %q on an address the provider does not have", r.Unknown, f.Verdict)
	}
}

// checkFinding checks what holds for every finding.
func checkFinding(tb testing.TB, r *rig, f provider.Finding, addr netip.Addr) {
	tb.Helper()
	if err := f.Validate(); err != nil {
		tb.Errorf("Lookup(%v): finding is not valid: %v", addr, err)
	}
	if f.Provider != r.p.Name() {
		tb.Errorf("Lookup(%v): Provider is %q, and the name of the provider %q", addr, f.Provider, r.p.Name())
	}
	if f.Addr != addr {
		tb.Errorf("Lookup(%v): Addr is %v", addr, f.Addr)
	}
	if len(f.Raw) > provider.MaxRaw {
		tb.Errorf("Lookup(%v): Raw has %d bytes, more than provider.MaxRaw", addr, len(f.Raw))
	}
	switch now := time.Now(); {
	case f.ObservedAt.IsZero():
		tb.Errorf("Lookup(%v): ObservedAt is not set", addr)
	case f.ObservedAt.Location() != time.UTC:
		tb.Errorf("Lookup(%v): ObservedAt %v is not in UTC", addr, f.ObservedAt)
	case f.ObservedAt.After(now.Add(time.Minute)):
		tb.Errorf("Lookup(%v): ObservedAt %v is in the future", addr, f.ObservedAt)
	}
}

// checkIPv6 checks that an IPv6 address is either answered for or refused
// without a request.
func checkIPv6(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	if err := r.refresh(tb.Context()); err != nil {
		tb.Fatalf("Refresh: %v", err)
	}
	before := r.requests()
	f, err := r.p.Lookup(tb.Context(), ipv6Addr)
	limited, ok := provider.As[provider.Limited](r.p)
	unsupported := errors.Is(err, provider.ErrUnsupported)
	switch {
	case ok && limited.Limits().IPv4Only && !unsupported:
		tb.Errorf("Lookup(%v) of a provider that declares IPv4Only: %v; want ErrUnsupported", ipv6Addr, err)
	case err == nil:
		checkFinding(tb, r, f, ipv6Addr)
	case !unsupported:
		tb.Errorf("Lookup(%v): %v; want a finding or ErrUnsupported", ipv6Addr, err)
	}
	if n := r.requests() - before; unsupported && n > 0 {
		tb.Errorf("Lookup(%v): %d requests about an address that is not supported", ipv6Addr, n)
	}
}

// checkConcurrent checks that lookups at once give the same answers as one by
// one. The race detector adds to it.
func checkConcurrent(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	addrs := []netip.Addr{r.known, r.known}
	if r.Unknown.IsValid() {
		addrs[1] = r.Unknown
	}
	want := []provider.Finding{r.must(tb, addrs[0]), r.must(tb, addrs[1])}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			f, err := r.ask(tb.Context(), addrs[i%2])
			if err != nil {
				tb.Errorf("Lookup(%v) beside others: %v", addrs[i%2], err)
				return
			}
			if !sameAnswer(f, want[i%2]) {
				tb.Errorf("Lookup(%v) beside others: %+v; alone: %+v", addrs[i%2], f, want[i%2])
			}
		})
	}
	wg.Wait()
}

// sameAnswer compares findings but for the time they were made.
func sameAnswer(a, b provider.Finding) bool {
	return a.Provider == b.Provider && a.Addr == b.Addr && a.Known == b.Known && a.Verdict == b.Verdict &&
		bytes.Equal(a.Raw, b.Raw) && len(a.Attrs) == len(b.Attrs) && (len(a.Attrs) == 0 || reflect.DeepEqual(a.Attrs, b.Attrs))
}

// checkImmutable checks that later lookups leave a finding as it was.
func checkImmutable(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	f := r.must(tb, r.known)
	was := deepCopy(f)
	for _, addr := range []netip.Addr{r.known, someAddr, otherAddr} {
		r.must(tb, addr)
		if !reflect.DeepEqual(f, was) {
			tb.Fatalf("a lookup of %v changed a finding that was returned before:\nwas %+v\nis  %+v", addr, was, f)
		}
	}
}

func deepCopy(f provider.Finding) provider.Finding {
	f.Raw = bytes.Clone(f.Raw)
	if f.Attrs == nil {
		return f
	}
	attrs := make(map[string]any, len(f.Attrs))
	for name, v := range f.Attrs {
		switch list := v.(type) {
		case []string:
			v = slices.Clone(list)
		case []int64:
			v = slices.Clone(list)
		}
		attrs[name] = v
	}
	f.Attrs = attrs
	return f
}
