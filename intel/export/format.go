package export

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
)

// Format is how a list is written. Equal lists make equal files: entries are in
// order of address, and a file does not say when it was written.
type Format string

// The formats.
const (
	// Plain is one address a line.
	Plain Format = "plain"
	// NFT is a file for "nft -f": it makes the table inet enrich with the sets
	// attackers4 and attackers6, and replaces their elements at once. Each element
	// has a timeout, so that a list that is not renewed comes to an end. Rules that
	// drop what is in the sets are the user's. Source of the syntax: nft(8).
	NFT Format = "nft"
	// CrowdSec is a JSON array of decisions for "cscli decisions import --format
	// json" (https://docs.crowdsec.net/docs/cscli/cscli_decisions_import).
	CrowdSec Format = "crowdsec"
	// CSV has a header line, times as in RFC 3339, and the sources separated by
	// spaces.
	CSV Format = "csv"
	// JSONLines is one JSON object a line, with the columns of CSV.
	JSONLines Format = "jsonl"
)

// Formats are all formats, in the order of their constants.
func Formats() []Format { return []Format{Plain, NFT, CrowdSec, CSV, JSONLines} }

// ParseFormat returns the format with a name, like "nft".
func ParseFormat(name string) (Format, error) {
	f := Format(name)
	if !slices.Contains(Formats(), f) {
		return "", fmt.Errorf("%.40q is no format; the formats are plain, nft, crowdsec, csv and jsonl", name)
	}
	return f, nil
}

// ContentType returns the media type of what Write writes.
func (f Format) ContentType() string {
	switch f {
	case CrowdSec:
		return "application/json"
	case CSV:
		return "text/csv; charset=utf-8"
	case JSONLines:
		return "application/x-ndjson"
	}
	return "text/plain; charset=utf-8"
}

// Write writes the list in a format.
func (l *List) Write(w io.Writer, f Format) error {
	b := bufio.NewWriterSize(w, 64<<10)
	var err error
	switch f {
	case Plain:
		l.writePlain(b)
	case NFT:
		l.writeNFT(b)
	case CrowdSec:
		l.writeCrowdSec(b)
	case CSV:
		err = l.writeCSV(b)
	case JSONLines:
		err = l.writeJSONLines(b)
	default:
		_, err = ParseFormat(string(f))
	}
	if err != nil {
		return err
	}
	return b.Flush() // returns the first error of all writes
}

func (l *List) writePlain(b *bufio.Writer) {
	var line []byte
	for i := range l.rows {
		line = append(l.rows[i].addr.AppendTo(line[:0]), '\n')
		b.Write(line)
	}
}

const nftHeader = `# Attackers that may be blocked. Load with: nft -f FILE
table inet enrich {
	set attackers4 { type ipv4_addr; flags timeout; }
	set attackers6 { type ipv6_addr; flags timeout; }
}
flush set inet enrich attackers4
flush set inet enrich attackers6
`

func (l *List) writeNFT(b *bufio.Writer) {
	b.WriteString(nftHeader)
	l.writeElements(b, "attackers4", netip.Addr.Is4)
	l.writeElements(b, "attackers6", netip.Addr.Is6)
}

// writeElements adds the addresses of one family to a set, one a line.
func (l *List) writeElements(b *bufio.Writer, set string, is func(netip.Addr) bool) {
	var line []byte
	end := ""
	for i := range l.rows {
		r := &l.rows[i]
		if !is(r.addr) {
			continue
		}
		if end == "" {
			b.WriteString("add element inet enrich " + set + " {\n")
			end = "}\n"
		}
		line = r.addr.AppendTo(append(line[:0], '\t'))
		line = strconv.AppendInt(append(line, " timeout "...), l.hours(r), 10)
		b.Write(append(line, "h,\n"...))
	}
	b.WriteString(end)
}

// hours returns for how many whole hours an entry may be blocked from the export
// on, and at least one. It counts from the full hour, so that it changes once an
// hour.
func (l *List) hours(r *row) int64 {
	left := time.UnixMicro(r.expires).Sub(l.At.Truncate(time.Hour))
	return max(1, int64((left-1)/time.Hour))
}

func (l *List) writeCrowdSec(b *bufio.Writer) {
	if len(l.rows) == 0 {
		b.WriteString("[]\n")
		return
	}
	before := "[\n"
	var line []byte
	for i := range l.rows {
		r := &l.rows[i]
		line = strconv.AppendInt(append(append(line[:0], before...), `{"duration":"`...), l.hours(r), 10)
		line = append(line, `h","reason":"enrich/`...)
		line = append(append(line, r.verdict.String()...), `","scope":"ip","type":"ban","value":"`...)
		b.Write(append(r.addr.AppendTo(line), `"}`...))
		before = ",\n"
	}
	b.WriteString("\n]\n")
}

func (l *List) writeCSV(b *bufio.Writer) error {
	w := csv.NewWriter(b)
	err := w.Write([]string{"address", "verdict", "score", "sources", "first_seen", "last_seen", "expires_at", "attacker_uuid"})
	for i := range l.rows {
		e := l.entry(&l.rows[i])
		err = errors.Join(err, w.Write([]string{
			e.Addr.String(), e.Verdict.String(), strconv.FormatFloat(e.Score, 'g', -1, 64), strings.Join(e.Sources, " "),
			e.FirstSeen.Format(time.RFC3339), e.LastSeen.Format(time.RFC3339), e.Expires.Format(time.RFC3339), e.ID.String(),
		}))
		if err != nil {
			return err
		}
	}
	w.Flush()
	return errors.Join(err, w.Error())
}

// line is a line of JSONLines.
type line struct {
	Address   netip.Addr       `json:"address"`
	Verdict   provider.Verdict `json:"verdict"`
	Score     float64          `json:"score"`
	Sources   []string         `json:"sources"`
	FirstSeen string           `json:"first_seen"`
	LastSeen  string           `json:"last_seen"`
	ExpiresAt string           `json:"expires_at"`
	ID        string           `json:"attacker_uuid"`
}

func (l *List) writeJSONLines(b *bufio.Writer) error {
	enc := json.NewEncoder(b)
	for i := range l.rows {
		e := l.entry(&l.rows[i])
		err := enc.Encode(line{
			e.Addr, e.Verdict, e.Score, e.Sources,
			e.FirstSeen.Format(time.RFC3339), e.LastSeen.Format(time.RFC3339), e.Expires.Format(time.RFC3339), e.ID.String(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// WriteFile writes the list to a file in a format. Whoever reads the file finds
// either the old list or the new one, complete, also after a crash. A file that is
// there keeps its mode; a new one may be read by everybody. An empty list replaces no
// file that holds another text, unless [Options].AllowEmpty is set: WriteFile returns
// [ErrEmpty], and the file stays as it is. A database that was lost or replaced, or
// flags that match nobody, would unblock everybody otherwise.
func (l *List) WriteFile(path string, f Format) (err error) {
	mode := os.FileMode(0o644)
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("export: %s is not a regular file", path)
	case err == nil:
		if err := l.mayReplace(path, f); err != nil {
			return err
		}
		mode = info.Mode().Perm()
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	file, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("export: write %s: %w", path, err)
			_ = file.Close()
			_ = os.Remove(file.Name()) // the first error matters
		}
	}()
	if err := l.Write(file, f); err != nil {
		return err
	}
	if err := errors.Join(file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	if d, err := os.Open(dir); err == nil { // so that the new name survives a crash, where directories can be synced
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// mayReplace returns ErrEmpty if the list is empty and the file holds another text.
func (l *List) mayReplace(path string, f Format) error {
	if len(l.rows) > 0 || l.allowEmpty {
		return nil
	}
	var empty bytes.Buffer
	if err := l.Write(&empty, f); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer file.Close() // only read
	text, err := io.ReadAll(io.LimitReader(file, int64(empty.Len())+1))
	if err != nil {
		return fmt.Errorf("export: read %s: %w", path, err)
	}
	if len(text) > 0 && !bytes.Equal(text, empty.Bytes()) {
		return fmt.Errorf("export: %w; %s stays as it is", ErrEmpty, path)
	}
	return nil
}
