package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

var listCommand = command{
	name: "list", args: "", summary: "list attackers, most recently seen first",
	help: `  -limit 0                how many; 0: all
  -verdict LIST           only these verdicts: malicious, suspicious, benign,
                          unknown, or none for no opinion; separated by commas
  -since 24h              only those seen since then
  -text TEXT              only those whose address or UUID contains it
  -enriched               only those about whom something is known
`,
	prepare: func(fs *flag.FlagSet) func(context.Context, *tool) error {
		var req store.ListRequest
		limit := fs.Int("limit", 0, "")
		since := fs.Duration("since", 0, "")
		fs.Func("verdict", "", func(list string) (err error) {
			req.Verdicts, err = parseVerdicts(list)
			return err
		})
		fs.StringVar(&req.Text, "text", "", "")
		fs.BoolVar(&req.Enriched, "enriched", false, "")
		return func(ctx context.Context, t *tool) error {
			switch {
			case len(t.args) > 0:
				return misuse("unexpected argument %q; -text filters by address or UUID", t.args[0])
			case *limit < 0:
				return misuse("-limit is %d; it must be 0, for all, or more", *limit)
			case *since < 0:
				return misuse("-since is %v; it must not be negative", *since)
			case *since > 0:
				req.SeenSince = time.Now().Add(-*since)
			}
			return t.withStore(ctx, func(s *sqlstore.Store) error { return t.list(ctx, s, req, *limit) })
		}
	},
}

// parseVerdicts reads verdicts separated by commas.
func parseVerdicts(list string) (verdicts []provider.Verdict, err error) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		v := provider.None
		if name != "none" {
			if v, err = provider.ParseVerdict(name); err != nil || name == "" {
				return nil, fmt.Errorf("%.40q is none of malicious, suspicious, benign, unknown and none", name)
			}
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

// errEnough ends a listing at its limit.
var errEnough = fmt.Errorf("that is enough")

// list prints up to limit attackers, or all if it is zero, one line each or as a
// JSON array.
func (t *tool) list(ctx context.Context, s *sqlstore.Store, req store.ListRequest, limit int) error {
	const line = "%-39s  %-10s  %-20s  %-20s  %s\n"
	printed := 0
	if !t.json {
		fmt.Fprintf(t.out, line, "ADDRESS", "VERDICT", "LAST SEEN", "ENRICHED", "UUID")
	}
	array := arrayWriter{w: t.out}
	err := eachRecord(ctx, s, req, func(r *store.Record) (err error) {
		if limit > 0 && printed == limit {
			return errEnough
		}
		printed++
		if t.json {
			return array.add(listed(r))
		}
		_, err = fmt.Fprintf(t.out, line, printable(r.IP), verdictWord(r), minute(r.LastSeen), minute(r.CachedAt), r.ID)
		return err
	})
	if err == errEnough {
		err = nil
	}
	if t.json && err == nil {
		err = array.close()
	}
	return err
}

// listedRecord is an attacker in JSON, with DECNET's names where it has some.
type listedRecord struct {
	UUID      string           `json:"attacker_uuid"`
	IP        string           `json:"attacker_ip"`
	Verdict   provider.Verdict `json:"aggregate_verdict"`
	Score     float64          `json:"score,omitempty"`
	FirstSeen time.Time        `json:"first_seen"`
	LastSeen  time.Time        `json:"last_seen"`
	CachedAt  time.Time        `json:"cached_at,omitzero"`
	Revision  uint64           `json:"revision"`
	Why       string           `json:"why,omitempty"`
}

func listed(r *store.Record) listedRecord {
	l := listedRecord{
		UUID: r.ID.String(), IP: r.IP, Verdict: r.Decision.Verdict, Score: r.Decision.Score,
		FirstSeen: r.FirstSeen, LastSeen: r.LastSeen, CachedAt: r.CachedAt, Revision: r.Revision,
	}
	if r.Revision > 0 {
		l.Why = r.Decision.String()
	}
	return l
}

// verdictWord is the verdict on a record in one word.
func verdictWord(r *store.Record) string {
	switch {
	case r.Revision == 0:
		return "-"
	case r.Decision.Verdict == provider.None:
		return "none"
	}
	return r.Decision.Verdict.String()
}

// minute is a time for people, in UTC.
func minute(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// printable replaces what could move the cursor or change the colors of a
// terminal, and cuts what is too long for a line.
func printable(text string) string {
	const most = 256
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text[:min(len(text), most)])
	return text
}

// arrayWriter writes a JSON array, one element a line.
type arrayWriter struct {
	w     io.Writer
	begun bool
}

func (a *arrayWriter) add(element any) error {
	text, err := json.Marshal(element)
	if err != nil {
		return err
	}
	before := "[\n"
	if a.begun {
		before = ",\n"
	}
	a.begun = true
	_, err = a.w.Write(append([]byte(before), text...))
	return err
}

func (a *arrayWriter) close() error {
	end := "\n]\n"
	if !a.begun {
		end = "[]\n"
	}
	_, err := io.WriteString(a.w, end)
	return err
}

// printJSON prints a value over several lines.
func (t *tool) printJSON(v any) error {
	e := json.NewEncoder(t.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
