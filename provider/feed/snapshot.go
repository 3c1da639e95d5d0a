package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/flock"
)

// A list is kept in these files of Options.Dir:
//
//	NAME.list   the list as it was downloaded
//	NAME.old    the version before, until all that follows from the change is done
//	NAME.unused empty; says that the list was not in use, until it is again
//	NAME.next   when it may be downloaded again
//	NAME.lock   locked by the process that downloads it
//
// Each file begins with a line that names its form, goes on with a line of JSON,
// and ends in the SHA-256 checksum of all that. In NAME.list the bodies of the
// sources are in between. A file is written under another name and then renamed;
// one that is damaged counts as absent.
const (
	listForm = "enrich list 1\n"
	nextForm = "enrich next 1\n"
)

// listHeader is the JSON of NAME.list.
type listHeader struct {
	Parts     []listPart `json:"parts"`
	ChangedAt time.Time  `json:"changed_at"`
}

type listPart struct {
	Place        string `json:"place"`
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	Size         int    `json:"size"` // negative if the part was never loaded
}

// nextHeader is the JSON of NAME.next.
type nextHeader struct {
	Places       string    `json:"places"` // of all sources
	Due          time.Time `json:"due"`
	Failures     int       `json:"failures,omitempty"`
	CheckedAt    time.Time `json:"checked_at,omitzero"`
	LastNonEmpty time.Time `json:"last_nonempty,omitzero"`
	Shrunk       bool      `json:"shrunk,omitempty"`
}

var errDamaged = errors.New("damaged")

// seal returns the content of a file.
func seal(form string, header any, bodies ...string) []byte {
	b, _ := json.Marshal(header) // times and text always marshal
	size := len(form) + len(b) + 1 + sha256.Size
	for _, body := range bodies {
		size += len(body)
	}
	out := make([]byte, 0, size)
	out = append(append(append(out, form...), b...), '\n')
	for _, body := range bodies {
		out = append(out, body...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// unseal is the inverse of seal. It returns what follows the header.
func unseal(content []byte, form string, header any) (rest []byte, err error) {
	n := len(content) - sha256.Size
	if n < 0 || sha256.Sum256(content[:n]) != [sha256.Size]byte(content[n:]) {
		return nil, errDamaged
	}
	content, found := bytes.CutPrefix(content[:n], []byte(form))
	first, rest, ended := bytes.Cut(content, []byte("\n"))
	if !found || !ended || json.Unmarshal(first, header) != nil {
		return nil, errDamaged
	}
	return rest, nil
}

// save writes a file of Options.Dir. A failure costs only what the file is for:
// the next restart downloads the list.
func (f *Feed[T]) save(path string, content []byte) {
	if err := writeFile(path, content); err != nil {
		f.unkept.Store(&err)
		return
	}
	f.unkept.Store(nil)
}

// unfinished is how files are named while they are written.
const unfinished = ".enrich-*"

// removeUnfinished removes what processes have left behind that were killed while
// they wrote. No file takes as long as a download.
func (f *Feed[T]) removeUnfinished() {
	files, _ := filepath.Glob(filepath.Join(f.o.Dir, unfinished)) // the pattern is right
	for _, file := range files {
		if info, err := os.Lstat(file); err == nil && time.Since(info.ModTime()) > lockTimeout {
			_ = os.Remove(file)
		}
	}
}

func writeFile(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// places identifies all sources.
func (f *Feed[T]) places() string {
	h := sha256.New()
	for _, p := range f.parts {
		fmt.Fprintf(h, "%s\n", p.place) // never fails
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12])
}

// reserve takes note, before a download, that there was one: a process that ends
// meanwhile must not make the next one download again at once.
func (f *Feed[T]) reserve(s *state[T], now time.Time) {
	reserved := *s
	reserved.due = now.Add(f.o.Spacing)
	f.keep(&reserved)
}

// keep writes down when the next download is due.
func (f *Feed[T]) keep(s *state[T]) {
	if !f.keeps() {
		return
	}
	f.save(f.path(".next"), seal(nextForm, nextHeader{f.places(), s.due, s.failures, s.checkedAt, s.lastNonEmpty, s.shrunk}))
}

// write writes the list, and keeps the version before it.
func (f *Feed[T]) write(results []*fetched, changedAt time.Time) {
	if !f.keeps() {
		return
	}
	header := listHeader{ChangedAt: changedAt}
	var bodies []string
	for i, p := range f.parts {
		part := listPart{Place: p.place, Size: -1}
		body := p.body
		if r := results[i]; r != nil && r.err == nil && !r.same {
			part.ETag, part.LastModified, body, part.Size = r.etag, r.lastModified, r.body, len(r.body)
		} else if p.loaded {
			part.ETag, part.LastModified, part.Size = p.etag, p.lastModified, len(body)
		}
		header.Parts, bodies = append(header.Parts, part), append(bodies, body)
	}
	// The older one stays if there is one already: nobody has acted on the change
	// since. A link that exists makes Link fail.
	_ = os.Link(f.path(".list"), f.path(".old"))
	f.save(f.path(".list"), seal(listForm, header, bodies...))
}

// forgetOld removes the version before the present one, and the mark that was read.
func (f *Feed[T]) forgetOld() {
	if !f.keeps() {
		return
	}
	_ = os.Remove(f.path(".old")) // there may be none
	if f.unused.Swap(false) {
		_ = os.Remove(f.path(".unused"))
	}
}

// keepsIn reports whether a file is one of those in which the list is kept.
func (o *Options[T]) keepsIn(file string) bool {
	is, err := os.Stat(file)
	for _, suffix := range []string{".list", ".old", ".unused", ".next", ".lock"} {
		path := filepath.Join(o.Dir, o.Provider+suffix)
		if a, b := absolute(file), absolute(path); a == b {
			return true
		}
		if other, no := os.Stat(path); err == nil && no == nil && os.SameFile(is, other) {
			return true
		}
	}
	return false
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// restore reads what was kept. It makes the list that was there at the last
// restart the present one.
func (f *Feed[T]) restore() {
	if f.o.Dir == "" {
		return
	}
	if f.keeps() {
		f.removeUnfinished()
	}
	f.readNext()
	old := f.readList(f.path(".old"), false)
	is := f.readList(f.path(".list"), true)
	if is == nil {
		return
	}
	s := *f.state.Load()
	s.loaded, s.snapshot, s.table, s.skipped, s.changedAt = true, true, is.table, is.skipped, is.changedAt
	if s.checkedAt.IsZero() || s.checkedAt.Before(s.changedAt) {
		s.checkedAt = s.changedAt
	}
	f.state.Store(&s)
	if old != nil {
		f.changes.add(old.table, is.table)
	}
	if _, err := os.Lstat(f.path(".unused")); err == nil {
		f.unused.Store(true)
		f.changes.add(nil, is.table)
	}
}

// MarkUnused marks the lists in a directory, see Options.Dir, that belong to none of the
// named providers. Call it before the feeds are first refreshed. A feed that later reads
// a marked list reports all its networks as changed, because attackers were decided
// without it. If processes share the directory, only the first such feed does.
//
// A directory that does not exist has no lists. Other errors of the file system are
// returned together, after all other lists were marked. Any number of goroutines and
// processes may call MarkUnused.
func MarkUnused(dir string, used []string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, file := range files {
		name, ok := strings.CutSuffix(file.Name(), ".list")
		if !ok || !file.Type().IsRegular() || slices.Contains(used, name) || !isList(filepath.Join(dir, file.Name())) {
			continue
		}
		mark, err := os.OpenFile(filepath.Join(dir, name+".unused"), os.O_CREATE, 0o600)
		if err == nil {
			err = mark.Close()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// isList reports whether a file is a list that was kept, and not somebody else's.
func isList(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	form := make([]byte, len(listForm))
	_, err = io.ReadFull(file, form)
	return err == nil && string(form) == listForm
}

// readNext reads when the next download is due: at once if somebody has removed the list
// so that a version is accepted that was refused for its size.
func (f *Feed[T]) readNext() {
	content, err := os.ReadFile(f.path(".next"))
	if err != nil {
		return
	}
	var header nextHeader
	if _, err := unseal(content, nextForm, &header); err != nil || header.Places != f.places() {
		return
	}
	if header.Shrunk {
		if _, err := os.Lstat(f.path(".list")); errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	s := *f.state.Load()
	s.due, s.failures, s.checkedAt, s.lastNonEmpty = header.Due, header.Failures, header.CheckedAt, header.LastNonEmpty
	s.shrunk = header.Shrunk
	f.state.Store(&s)
}

// kept is a list that was read from a file.
type kept[T any] struct {
	table     *Table[T]
	skipped   int
	changedAt time.Time
}

// readList reads a list, and with adopt makes its parts the present ones. It
// returns nil if there is none, or none of these sources.
func (f *Feed[T]) readList(path string, adopt bool) *kept[T] {
	if info, err := os.Stat(path); err != nil || info.Size() > int64(len(f.parts))*f.o.MaxBody+1<<20 {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var header listHeader
	rest, err := unseal(content, listForm, &header)
	if err != nil {
		return nil
	}
	results := make([]*fetched, len(f.parts))
	bodies := make([]string, len(f.parts))
	found := false
	for _, part := range header.Parts {
		if part.Size < 0 {
			continue
		}
		if part.Size > len(rest) {
			return nil
		}
		body := string(rest[:part.Size])
		sum := sha256.Sum256(rest[:part.Size])
		rest = rest[part.Size:]
		for i, p := range f.parts {
			if p.place == part.Place {
				results[i] = &fetched{body: body, sum: sum, etag: part.ETag, lastModified: part.LastModified}
				bodies[i], found = body, true
			}
		}
	}
	if !found {
		return nil
	}
	table, skipped, err := f.build(bodies)
	if err != nil {
		return nil // of another version of this program
	}
	if adopt {
		for i, p := range f.parts {
			if r := results[i]; r != nil {
				p.accept(r, len(f.parts) > 1)
			}
		}
	}
	return &kept[T]{table, skipped, header.ChangedAt}
}

// readShared looks whether another process has downloaded the list, or tried to,
// and takes over what there is. It reports whether there was anything new.
func (f *Feed[T]) readShared(now time.Time) bool {
	before := f.state.Load()
	f.readNext()
	after := f.state.Load()
	if before.loaded && (!now.Before(after.due) || after.due.Equal(before.due)) {
		return false
	}
	if before.loaded && after.checkedAt.After(before.checkedAt) { // the other process found it to be current
		s := *after
		s.snapshot, s.err = false, nil
		after = &s
		f.state.Store(after)
	}
	if list := f.readList(f.path(".list"), true); list != nil && (!before.loaded || list.changedAt.After(before.changedAt)) {
		s := *after
		s.loaded, s.snapshot, s.table, s.skipped, s.changedAt, s.err = true, false, list.table, list.skipped, list.changedAt, nil
		f.changes.add(before.table, list.table)
		f.state.Store(&s)
	}
	return true
}

// lockTimeout is how long another process may take to download a list.
const lockTimeout = 10 * time.Minute

// lock makes other processes that download this list wait until unlock is called.
// Where there can be no lock, there is nobody to wait for.
func (f *Feed[T]) lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(f.path(".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return func() {}, nil
	}
	switch unlock, err = flock.Lock(ctx, file, lockTimeout); {
	case errors.Is(err, flock.ErrHeld):
		return nil, fmt.Errorf("another process has been downloading the list for %v; stop it, or give it another state directory", lockTimeout)
	case err != nil && ctx.Err() == nil: // a file system without locks
		return func() {}, nil
	}
	return unlock, err
}
