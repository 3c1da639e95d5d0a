package storetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

func positions(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Positions](f)
	check := func(name, want string, there bool) {
		f.Helper()
		got, err := s.Position(f.ctx, name)
		if err != nil || string(got) != want || (got != nil) != there {
			f.Fatalf("Position of %q returned %q, %v; want %q, there: %v", name, got, err, want, there)
		}
	}
	put := func(name string, doc []byte, attackers ...store.Attacker) {
		f.Helper()
		if err := s.ObserveAt(f.ctx, name, doc, attackers...); err != nil {
			f.Fatalf("ObserveAt of %q: %v", name, err)
		}
	}
	check("a", "", false)
	one, two := f.attacker(1), f.attacker(2)
	doc := []byte("place 1")
	put("a", doc, one, two)
	copy(doc, "xxxxx")
	check("a", "place 1", true)
	f.expect("a claim of what was observed", f.claim().Records, one, two)
	long := strings.Repeat("ä", 127)
	put(long, []byte("other"))
	put("a", []byte(strings.Repeat("0123456789abcdef", 4<<10)))
	check("a", strings.Repeat("0123456789abcdef", 4<<10), true)
	check(long, "other", true)
	got, err := s.Position(f.ctx, long)
	if err != nil {
		f.Fatalf("Position: %v", err)
	}
	copy(got, "xxxxx")
	check(long, "other", true)
	put("a", nil)
	check("a", "", false)

	three := f.attacker(3)
	bad := store.Attacker{ID: uuid.New(), IP: "nobody"}
	rejected, ok := errors.AsType[*store.ObserveError](s.ObserveAt(f.ctx, "a", []byte("place 2"), bad, three))
	if !ok || len(rejected.Rejected) != 1 {
		f.Fatalf("ObserveAt with an attacker without an address returned %v; want an error that names it", rejected)
	}
	check("a", "place 2", true)
	f.get(three.ID)
	for _, name := range []string{"", strings.Repeat("x", 256)} {
		if err := s.ObserveAt(f.ctx, name, doc, f.attacker(4)); !errors.Is(err, store.ErrInvalid) {
			f.Errorf("ObserveAt of a name of %d bytes returned %v; want ErrInvalid", len(name), err)
		}
	}
}
