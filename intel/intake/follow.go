package intake

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/intel/sighting"
)

// Follow takes attackers from a file to which lines are added, until ctx is done;
// then it returns nil. A file that is new to the store is read from its beginning.
// How far it was read is stored with the attackers, so a restart or a crash loses
// nothing.
//
// When the file is rotated by renaming it, also more than once between two looks
// and while nothing follows it, the rest of it is read as long as it exists beside
// the new one under a name that begins with the file's: cowrie.json.1,
// cowrie.json.2026-11-28, cowrie-20261128.json, also compressed with gzip. When it
// is truncated in place (copytruncate), its copy is read in the same way; lines
// written between the copy and the truncation are lost, and this is logged.
//
// The file need not exist yet. Follow returns an error if it cannot be followed at
// all: if the store is no [store.Positions], or path is a directory. Everything
// else, such as a file that cannot be read, is logged and tried again.
func (in *Intake) Follow(ctx context.Context, path string) error {
	if in.positions == nil {
		return errors.New("intake: files cannot be followed: the store is no store.Positions")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("intake: follow %s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("intake: follow %s: it is no regular file; give a log to it with -f or a pipe instead", path)
	}
	key := sha256.Sum256([]byte(in.options.Host + "\x00" + path))
	f := &follower{in: in, path: path, name: "follow/" + hex.EncodeToString(key[:16]), failing: map[string]string{}}
	defer f.close()
	if err := in.persist(ctx, path, func() error { return f.restore(ctx) }); err != nil {
		return nil // ctx is done
	}
	for {
		progress := f.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if progress {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(in.options.Poll):
		}
	}
}

const (
	// headSize is how many bytes of a file's beginning identify it.
	headSize = 1024
	// settle is how long a rotated file must not have grown before its last line
	// counts although it has no end.
	settle = 2 * time.Second
	// tick is how much the times of files may lag behind the clock: file systems take
	// the time of the kernel's last tick.
	tick = 20 * time.Millisecond
	// overlap is how much older than the latest file that was read to its end a file
	// may be and still be discovered.
	overlap = 15 * time.Second
	// maxDone is how many files that were read to their end are remembered.
	maxDone = 4096
	// maxOpen is how many rotated files are kept open.
	maxOpen = 8
	// giveUp is how long the rest of a file that cannot be found is looked for.
	giveUp = 30 * time.Second
)

// file is one of the files that were written under the followed path.
type file struct {
	// What is stored.
	ID       fileID            `json:"id"`
	Head     string            `json:"head,omitempty"` // a hash of its first Bytes bytes
	Bytes    int               `json:"bytes,omitempty"`
	Size     int64             `json:"size"` // when it was last looked at
	Modified int64             `json:"modified"`
	Position sighting.Position `json:"position"`
	Done     bool              `json:"done,omitempty"`    // read to its end
	Current  bool              `json:"current,omitempty"` // it is at the followed path

	where    string    // its path now; empty: not found
	lost     time.Time // since when it is not found
	grown    time.Time // when it was last seen to grow
	readAt   int64     // its size when all of it had been read
	reported bool      // what it held when it was first read was logged
	unlinked bool
	source   *growing
	reader   *sighting.Reader
}

// fileID identifies a file on this machine while it exists.
type fileID struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// state is the document that is stored.
type state struct {
	Since int64   `json:"since"` // files last modified before are older than all that was read
	Files []*file `json:"files"`
}

// follower follows one path. One goroutine uses it.
type follower struct {
	in      *Intake
	path    string
	name    string // of the position
	state   state
	changed bool // the state differs from what is stored
	batch   batch
	failing map[string]string // the last failure of each file, to log it once
}

func (f *follower) restore(ctx context.Context) error {
	doc, err := f.in.positions.Position(ctx, f.name)
	if err != nil {
		return err
	}
	if doc == nil {
		f.state = state{Since: time.Now().Add(-tick).UnixNano()}
		return nil
	}
	if err := json.Unmarshal(doc, &f.state); err != nil {
		f.in.log.Error("the stored position is damaged; reading the file from its beginning", "file", f.path, "error", err)
		f.state = state{Since: time.Now().Add(-tick).UnixNano()}
	}
	return nil
}

func (f *follower) close() {
	for _, l := range f.state.Files {
		l.close()
	}
}

func (l *file) close() {
	if l.source != nil {
		_ = l.source.file.Close() // only read
		l.source, l.reader = nil, nil
	}
}

// look finds the files and reads what is new in them. It reports whether anything
// was read.
func (f *follower) look(ctx context.Context) (progress bool) {
	f.find()
	for _, l := range slices.Clone(f.state.Files) {
		if l.Done || l.where == "" && l.source == nil || l.source == nil && l.readAt == l.Size && time.Since(l.grown) <= settle {
			continue
		}
		before := l.Position
		err := f.read(ctx, l)
		if ctx.Err() != nil {
			return false
		}
		f.note(l, err)
		progress = progress || l.Position != before
	}
	f.prune()
	if f.changed {
		f.save(ctx)
	}
	return progress
}

// note logs that a file cannot be read, once for each reason.
func (f *follower) note(l *file, err error) {
	where := l.where
	if where == "" {
		where = f.path
	}
	switch {
	case err == nil:
		delete(f.failing, where)
		return
	case f.failing[where] == err.Error():
		return
	}
	f.failing[where] = err.Error()
	if _, ok := errors.AsType[*sighting.BinaryError](err); ok {
		f.in.log.Error("a file is not read", "file", where, "error", err)
		return
	}
	f.in.log.Warn("a file cannot be read now; trying again", "file", where, "error", err)
}

// entry is a file in the directory.
type entry struct {
	path     string
	id       fileID
	size     int64
	modified int64
	links    uint64
	current  bool
}

// list returns the file at the path, last, and those beside it that may be earlier
// ones, in the order in which they were modified.
func (f *follower) list() ([]entry, error) {
	dir, base := filepath.Split(f.path)
	names, err := readNames(dir)
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, name := range names {
		if name != base && !mayBeRotated(name, base) {
			continue
		}
		path := filepath.Join(dir, name)
		info, err := os.Lstat(path)
		if name == base && err == nil && info.Mode()&fs.ModeSymlink != 0 {
			info, err = os.Stat(path)
		}
		if err != nil || !info.Mode().IsRegular() {
			continue // it is gone, or no log
		}
		e := entry{path: path, size: info.Size(), modified: info.ModTime().UnixNano(), current: name == base}
		e.id, e.links = identify(info)
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		switch {
		case a.current && !b.current:
			return 1
		case b.current && !a.current:
			return -1
		}
		return cmp.Or(cmp.Compare(a.modified, b.modified), strings.Compare(a.path, b.path))
	})
	return all, nil
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close() // only read
	return d.Readdirnames(-1)
}

// mayBeRotated reports whether a file of the given name may be an earlier file of
// the log with the name base: base.1, base-20261128.gz, or the date before the
// extension.
func mayBeRotated(name, base string) bool {
	if rest, ok := strings.CutPrefix(name, base); ok {
		return strings.IndexByte(".-_~", rest[0]) >= 0 && !strings.HasSuffix(name, ".swp") && !strings.HasSuffix(name, ".lock")
	}
	ext := filepath.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	rest, ok := strings.CutPrefix(name, stem)
	if !ok || ext == "" || stem == "" {
		return false
	}
	rest = strings.TrimSuffix(rest, ".gz")
	middle, ok := strings.CutSuffix(rest, ext)
	return ok && len(middle) > 1 && strings.IndexByte(".-_", middle[0]) >= 0 && strings.Trim(middle[1:], "0123456789-_.T:") == ""
}

// find brings the state up to date with the files in the directory.
func (f *follower) find() {
	entries, err := f.list()
	if err != nil {
		f.note(&file{}, err)
		return
	}
	was := make(map[*file]bool)
	for _, l := range f.state.Files {
		was[l] = l.Current
		l.where, l.Current = "", false
	}
	var unknown []entry
	for _, e := range entries {
		l := f.withID(e.id)
		switch {
		case l == nil:
			unknown = append(unknown, e)
		case f.sameFile(l, e):
			l.found(e)
		case e.current && was[l]:
			f.truncated(l)
			unknown = append(unknown, e)
		default: // another file has the number of one that is gone
			l.ID = fileID{}
			l.close()
			unknown = append(unknown, e)
		}
	}
	for _, e := range unknown {
		f.discover(e)
	}
	for _, l := range f.state.Files {
		f.missing(l)
	}
}

// withID returns the file with an ID, and nil if there is none.
func (f *follower) withID(id fileID) *file {
	for _, l := range f.state.Files {
		if l.ID == id && id != (fileID{}) {
			return l
		}
	}
	return nil
}

// sameFile reports whether an entry is the file that has had its ID.
func (f *follower) sameFile(l *file, e entry) bool {
	if e.size == l.Size && e.modified == l.Modified {
		return true
	}
	if e.size < l.Size {
		return false
	}
	if l.Bytes == 0 {
		return true
	}
	head, err := headOf(e.path, l.Bytes)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) // it has just been renamed
	}
	return len(head) == l.Bytes && hashOf(head) == l.Head
}

// found takes note of where a file is now.
func (l *file) found(e entry) {
	if e.size > l.Size && l.Done && !strings.HasSuffix(e.path, ".gz") {
		l.Done = false // somebody wrote to it after all
	}
	if e.size != l.Size || l.grown.IsZero() {
		l.grown = time.Now()
	}
	l.where, l.Current, l.lost = e.path, e.current, time.Time{}
	l.Size, l.Modified = e.size, e.modified
}

// truncated takes note that the file at the path was truncated.
func (f *follower) truncated(l *file) {
	l.close()
	l.ID, l.where = fileID{}, ""
	f.in.log.Warn("a followed file was truncated in place: lines that were written between its copy and the truncation are lost; rotate it by renaming",
		"file", f.path)
}

// discover takes up a file whose ID is not known: the copy of a known one, or a
// new one.
func (f *follower) discover(e entry) {
	zipped := strings.HasSuffix(e.path, ".gz")
	if !e.current && e.modified < f.state.Since {
		return // older than all that was read
	}
	head, err := headOf(e.path, headSize)
	if err != nil {
		return // it was renamed, or is being compressed; the next look finds it
	}
	for _, l := range f.state.Files {
		if l.where != "" || l.Bytes == 0 || len(head) < l.Bytes || !zipped && e.size < l.Size || hashOf(head[:l.Bytes]) != l.Head {
			continue
		}
		if l.source != nil { // it is open, and read from there
			if !l.unlinked && !zipped {
				continue
			}
			l.ID = e.id
			return
		}
		done := l.Done
		l.ID, l.Size = e.id, e.size
		l.found(e)
		l.Done = done
		f.changed = true
		return
	}
	if zipped { // the file that was compressed may still be there
		for _, l := range f.state.Files {
			if l.Bytes > 0 && len(head) >= l.Bytes && hashOf(head[:l.Bytes]) == l.Head {
				return
			}
		}
	}
	l := &file{ID: e.id}
	l.found(e)
	// Files are read in the order in which they were written.
	at := len(f.state.Files)
	if !e.current {
		at = slices.IndexFunc(f.state.Files, func(other *file) bool { return other.Current })
		if at < 0 {
			at = len(f.state.Files)
		}
	}
	f.state.Files = slices.Insert(f.state.Files, at, l)
	f.changed = true
}

// missing gives up a file that cannot be found for a while.
func (f *follower) missing(l *file) {
	switch {
	case l.where != "" || l.Done || l.source != nil:
		return
	case f.copied(l):
		l.Done, f.changed = true, true
		return
	case l.lost.IsZero():
		l.lost = time.Now()
		return
	case time.Since(l.lost) < giveUp:
		return
	}
	f.in.log.Error("a followed file is gone and was not read to its end, unless nothing was added to it", "file", f.path, "read_up_to_byte", l.Position.Offset)
	l.Done = true
	f.changed = true
}

// copied reports whether a copy of a file was read as far as the file, at least.
func (f *follower) copied(l *file) bool {
	return slices.ContainsFunc(f.state.Files, func(other *file) bool {
		return other != l && l.Bytes > 0 && other.Head == l.Head && other.Bytes == l.Bytes && other.Position.Offset >= l.Position.Offset
	})
}

// read reads what is new in a file.
func (f *follower) read(ctx context.Context, l *file) error {
	if l.source == nil {
		if opened, err := f.open(l); err != nil || !opened {
			return err
		}
	}
	if err := f.identify(l); err != nil {
		return err
	}
	// A rotated file ends when nobody can write to it any more, or does.
	l.source.last = !l.Current && (l.unlinked || l.source.zipped || !l.grown.IsZero() && time.Since(l.grown) > settle)
	for {
		s, err := l.reader.Next()
		if l.Position != l.reader.Position() {
			l.Position = l.reader.Position()
			f.changed = true
		}
		switch {
		case err == nil:
			f.batch.add(s.Addr, s.Time)
			if len(f.batch.list) >= maxBatch && !f.save(ctx) {
				return ctx.Err()
			}
			continue
		case errors.Is(err, sighting.ErrWait):
			f.save(ctx)
			l.readAt = l.Size
			if report := l.reader.Report(); !l.reported && report.Lines > 0 { // once; the rest follows at the end
				l.reported = true
				f.in.reportRead(l.where, report)
			}
			if !l.Current && f.opened() > maxOpen {
				l.close()
			}
			return nil
		}
		report := l.reader.Report()
		l.close()
		_, binary := errors.AsType[*sighting.BinaryError](err)
		if errors.Is(err, io.EOF) || binary {
			l.Done = true
			f.changed = true
			f.in.reportRead(f.path, report)
			f.save(ctx)
			if !binary {
				return nil
			}
		}
		return err
	}
}

// opened counts the files that are open.
func (f *follower) opened() (n int) {
	for _, l := range f.state.Files {
		if l.source != nil {
			n++
		}
	}
	return n
}

// open opens a file that has at least two bytes, by which its encoding is known.
func (f *follower) open(l *file) (bool, error) {
	if l.Size < 2 && l.Current {
		return false, nil
	}
	file, err := os.Open(l.where)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // it has just been renamed
		}
		return false, err
	}
	info, err := file.Stat()
	if err == nil {
		if id, _ := identify(info); id != l.ID {
			err = fs.ErrNotExist // it has just been renamed
		}
	}
	if err != nil {
		_ = file.Close() // only read
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	l.source = &growing{file: file, zipped: isZipped(file)}
	if l.source.zipped && l.Current {
		l.source.last = true
	}
	o := f.in.reader()
	o.Start = l.Position
	l.reader = sighting.NewReader(l.source, o)
	return true, nil
}

// identify reads the beginning of a file while it is short, and whether it still
// has a name.
func (f *follower) identify(l *file) error {
	info, err := l.source.file.Stat()
	if err != nil {
		return err
	}
	_, links := identify(info)
	l.unlinked = links == 0
	if l.Bytes >= headSize || l.source.zipped && l.Bytes > 0 {
		return nil
	}
	head, err := readHead(l.source.file, headSize, l.source.zipped)
	if err != nil || len(head) <= l.Bytes {
		return err
	}
	l.Bytes, l.Head = len(head), hashOf(head)
	f.changed = true
	return nil
}

// save stores the attackers found so far, and how far the files were read. It
// reports false if ctx is done before.
func (f *follower) save(ctx context.Context) bool {
	if !f.changed && len(f.batch.list) == 0 {
		return true
	}
	doc, err := json.Marshal(f.state)
	if err != nil {
		f.in.log.Error("cannot write down a position", "file", f.path, "error", err)
		return true
	}
	err = f.in.persist(ctx, f.path, func() error {
		err := f.in.positions.ObserveAt(ctx, f.name, doc, f.batch.list...)
		if len(f.batch.list) == 0 {
			return err
		}
		return f.in.stored(err)
	})
	if err != nil {
		return false
	}
	f.batch.reset()
	f.changed = false
	return true
}

// prune forgets files that were read to their end long before the latest one.
func (f *follower) prune() {
	var latest int64
	done := 0
	for _, l := range f.state.Files {
		if l.Done && !l.Current {
			latest, done = max(latest, l.Modified), done+1
		}
	}
	if since := latest - int64(overlap); since > f.state.Since {
		f.state.Since = since
	}
	f.state.Files = slices.DeleteFunc(f.state.Files, func(l *file) bool {
		old := l.Done && !l.Current && (l.Modified < f.state.Since || l.where == "" && done > maxDone)
		if old {
			done--
			l.close()
			f.changed = true
		}
		return old
	})
}

// growing is a file to which somebody may write.
type growing struct {
	file   *os.File
	zipped bool
	last   bool // its end is the end
}

func (g *growing) Read(p []byte) (int, error) {
	n, err := g.file.Read(p)
	if errors.Is(err, io.EOF) && !g.last {
		err = sighting.ErrWait
	}
	return n, err
}

func (g *growing) Seek(offset int64, whence int) (int64, error) { return g.file.Seek(offset, whence) }
