package feed

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Syntax is how a list is written. A list in gzip or in a zip archive is unpacked
// first.
type Syntax int

// The syntaxes of lists.
const (
	// AnySyntax is whichever of the others the list itself shows.
	AnySyntax Syntax = iota
	// Lines begin with an address, a network (CIDR) or a range (first-last), and go
	// on with fields after a tab, a comma or spaces: where a source has this syntax, as
	// many as Format.Fields names. Comments begin with #, ; or //
	// and may follow a row.
	Lines
	// CSV has a header, which may stand in a comment.
	CSV
	// JSONArray has texts or objects.
	JSONArray
	// JSONObject has such an array as a member.
	JSONObject
	// JSONLines may end in a line of metadata, and must with Format.Metadata.
	JSONLines
	// ExitNodes is the list of the Tor project's CollecTor.
	ExitNodes
)

// String returns what the syntax is called.
func (s Syntax) String() string {
	return []string{"a list", "lines of text", "CSV", "a JSON array", "a JSON object", "JSON lines", "a list of exit nodes"}[s]
}

// Format says which parts of a list's rows matter.
type Format struct {
	// Address are the names of the columns or members that hold the address,
	// network, range or address with a port. Those of a row that are arrays all
	// count; of the others, the first that a row has. Default: what such columns
	// are usually called.
	Address []string
	// Fields are the names of further columns or members, in the order in which
	// [Options].Row gets them. In lists without names, the fields of a row are
	// those after the address. The name "*" stands for the row itself as JSON.
	Fields []string
	// Ranges says that a row without names begins with the first and the last
	// address of a range.
	Ranges bool
	// Metadata says that the publisher ends JSON lines in a line of metadata, so that
	// a list without it breaks off.
	Metadata bool
}

// defaultAddress are names of columns and members that hold addresses.
var defaultAddress = []string{
	"network", "cidr", "prefix", "ip", "address", "ip_address", "ipaddress", "dst_ip", "src_ip", "ioc_value", "ioc",
	"exit_addresses", "or_addresses", "ip_prefix", "ipv6_prefix",
}

// arrays are the members of a JSON object that hold its rows.
var arrays = []string{"data", "list", "relays", "prefixes", "ipv6_prefixes"}

// line is a row before its address is parsed. Both are only valid until the next
// row.
type line struct {
	addresses []string // texts of addresses, networks, ranges, and addresses with a port
	fields    []string
}

// The errors of lists that are not lists. None repeats what the list holds.
var (
	errEmpty   = errors.New("the list is empty")
	errPage    = errors.New("a web page, not a list")
	errUTF16   = errors.New("binary data or UTF-16, not UTF-8 text")
	errNoRows  = errors.New("no row has an address")
	errNoArray = errors.New("JSON without an array of rows")
	errJSON    = errors.New("JSON that breaks off or is malformed")
)

// parse calls add for each row of a list, which must have the given syntax. It
// reports whether a list like this that has no row says so: by an empty array, by a
// header, or by a number of rows. An object with an empty array may be an error of
// whatever sent it, so it is a list only where an object is expected.
func (f *Format) parse(body string, syntax Syntax, add func(line) error) (saysEmpty bool, err error) {
	body = strings.TrimPrefix(body, "\ufeff")
	text := strings.TrimLeft(body, " \t\r\n")
	switch {
	case text == "":
		return false, nil
	case strings.HasPrefix(body, "\xff\xfe"), strings.HasPrefix(body, "\xfe\xff"), strings.IndexByte(body, 0) >= 0:
		return false, errUTF16
	case !utf8.ValidString(text):
		return false, errUTF16
	case text[0] == '<':
		return false, errPage
	}
	var header []string
	var rest string
	is := syntaxOf(text)
	if is == Lines && syntax != Lines {
		if header, rest = f.header(text); header != nil {
			is = CSV
		}
	}
	if syntax != AnySyntax && is != syntax {
		return false, fmt.Errorf("%v, not %v", is, syntax)
	}
	switch is {
	case CSV:
		return true, f.parseCSV(text, header, rest, add)
	case JSONArray:
		_, err := f.parseArray([]byte(text), add)
		return true, err
	case JSONObject:
		rows, err := f.parseObject(text, add)
		if err == nil && rows == 0 && syntax != JSONObject {
			err = errEmpty
		}
		return true, err
	case JSONLines:
		return false, f.parseJSONLines(body, add)
	case ExitNodes:
		return false, parseExits(text, add)
	}
	return f.parseLines(text, syntax == Lines, add)
}

// syntaxOf returns the syntax that the first characters show. Lines may be CSV.
func syntaxOf(text string) Syntax {
	switch {
	case strings.HasPrefix(text, "ExitNode "), strings.HasPrefix(text, "@type tordnsel"):
		return ExitNodes
	case text[0] == '{' && isJSONLines(text):
		return JSONLines
	case text[0] == '{':
		return JSONObject
	case text[0] == '[' && !strings.HasPrefix(text, "[Adblock"):
		return JSONArray
	}
	return Lines
}

func (f *Format) addressNames() []string {
	if len(f.Address) > 0 {
		return f.Address
	}
	return defaultAddress
}

// nextLine cuts the first line off a text.
func nextLine(text string) (line, rest string) {
	line, rest, _ = strings.Cut(text, "\n")
	return strings.TrimSuffix(line, "\r"), rest
}

// parseLines parses rows without names. If their fields are known, a line with others
// is no row but a message, like "192.0.2.1 is blocked". parseLines reports whether the
// list says how many rows there are.
func (f *Format) parseLines(text string, known bool, add func(line) error) (counted bool, err error) {
	var (
		row    line
		buffer [1]string
		end    int // the number of rows that the list says it has; negative if it does not
		n      int
	)
	end = -1
	for text != "" {
		var s string
		s, text = nextLine(text)
		if strings.HasPrefix(s, "#") {
			if count, ok := entriesIn(s); ok {
				end = count
			}
			continue
		}
		s, among := cutComment(s)
		if s == "" {
			continue
		}
		n++
		address, rest := cutField(s, among)
		first, cut := strings.CutSuffix(address, "-")
		last, ok := strings.CutPrefix(rest, "-")
		if cut || ok { // first - last
			last, rest = cutField(strings.TrimLeft(last, separators), among)
			address = first + "-" + last
		} else if f.Ranges {
			last, more := cutField(rest, among)
			if _, err := netip.ParseAddr(last); err == nil {
				address, rest = address+"-"+last, more
			}
		}
		buffer[0] = address
		row.addresses, row.fields = buffer[:], row.fields[:0]
		for rest != "" {
			var field string
			field, rest = cutField(rest, among)
			row.fields = append(row.fields, field)
		}
		if known && len(row.fields) != len(f.Fields) {
			row.addresses = nil
		}
		if err := add(row); err != nil {
			return false, err
		}
	}
	return end >= 0, checkEnd(end, n)
}

// separators are what may be between the fields of a line: in a line with tabs,
// these alone.
const separators = "\t ,"

// cutField cuts the first field off a line.
func cutField(s, among string) (field, rest string) {
	for i := range len(s) {
		if c := s[i]; c == '\t' || (c == ' ' || c == ',') && len(among) > 1 {
			return strings.TrimRight(s[:i], separators), strings.TrimLeft(s[i:], separators)
		}
	}
	return s, ""
}

// cutComment returns a line without its comment and the spaces around it, and
// what is between its fields.
func cutComment(s string) (line, among string) {
	among = separators
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\t':
			among = separators[:1]
		case c == '#', c == ';', c == '/' && strings.HasPrefix(s[i:], "//") && (i == 0 || s[i-1] != ':'):
			return strings.TrimSpace(s[:i]), among
		}
	}
	return strings.TrimSpace(s), among
}

// entriesIn returns the number of rows that a comment like "# END 28 entries" or
// "# Number of entries: 28" says there are.
func entriesIn(comment string) (n int, ok bool) {
	words := strings.Fields(strings.ToLower(strings.Trim(comment, "# \t")))
	var number string
	switch {
	case len(words) == 3 && words[0] == "end" && words[2] == "entries":
		number = words[1]
	case len(words) == 4 && strings.Join(words[:3], " ") == "number of entries:":
		number = words[3]
	default:
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil && n >= 0
}

func checkEnd(says, has int) error {
	if says >= 0 && says != has {
		return fmt.Errorf("the list says that it has %d rows, and has %d", says, has)
	}
	return nil
}

// header looks for a line of column names, one of which holds addresses, before
// the first row. It returns nil if there is none, and what follows it.
func (f *Format) header(text string) (names []string, rest string) {
	for text != "" {
		var s string
		s, text = nextLine(text)
		bare := strings.TrimSpace(strings.Trim(strings.TrimSpace(s), "#"))
		if strings.Contains(bare, ",") {
			names, err := newCSV(strings.ToLower(bare)).Read()
			for i := range names {
				names[i] = strings.TrimSpace(names[i])
			}
			if err == nil && slices.ContainsFunc(f.addressNames(), func(name string) bool { return slices.Contains(names, strings.ToLower(name)) }) {
				return slices.Clone(names), text
			}
		}
		if row, _ := cutComment(s); row != "" {
			return nil, ""
		}
	}
	return nil, ""
}

func newCSV(text string) *csv.Reader {
	r := csv.NewReader(strings.NewReader(text))
	r.Comment = '#'
	r.FieldsPerRecord = -1
	r.LazyQuotes = true
	r.TrimLeadingSpace = true
	r.ReuseRecord = true
	return r
}

func (f *Format) parseCSV(text string, header []string, rest string, add func(line) error) error {
	addresses, fields := columns(header, f.addressNames()), columns(header, f.Fields)
	end := -1
	for s := ""; text != ""; {
		if s, text = nextLine(text); strings.HasPrefix(s, "#") {
			if n, ok := entriesIn(s); ok {
				end = n
			}
		}
	}
	var row line
	at := func(record []string, i int) string {
		if i < 0 || i >= len(record) {
			return ""
		}
		if s := strings.TrimSpace(record[i]); s != "None" {
			return s
		}
		return ""
	}
	n := 0
	for r := newCSV(rest); ; n++ {
		record, err := r.Read()
		switch {
		case err == io.EOF:
			return checkEnd(end, n)
		case err != nil:
			return errors.New("CSV that is malformed")
		}
		row.addresses, row.fields = row.addresses[:0], row.fields[:0]
		for _, i := range addresses {
			if s := at(record, i); s != "" {
				row.addresses = append(row.addresses, s)
				break
			}
		}
		for _, i := range fields {
			row.fields = append(row.fields, at(record, i))
		}
		if err := add(row); err != nil {
			return err
		}
	}
}

// columns returns where the names are in a header, -1 for those that are not.
func columns(header, names []string) []int {
	at := make([]int, len(names))
	for i, name := range names {
		at[i] = slices.Index(header, strings.ToLower(name))
	}
	return at
}

// isJSONLines reports whether the first of several lines is a JSON object.
func isJSONLines(text string) bool {
	first, rest := nextLine(text)
	return strings.TrimSpace(rest) != "" && json.Valid([]byte(first))
}

func (f *Format) parseObject(text string, add func(line) error) (rows int, err error) {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil {
		return 0, errJSON
	}
	found := false
	for _, name := range arrays {
		member := object[name]
		if len(member) == 0 || member[0] != '[' {
			continue
		}
		found = true
		n, err := f.parseArray(member, add)
		if err != nil {
			return 0, err
		}
		rows += n
	}
	if !found { // such as one object about the address of the client
		return 0, errNoArray
	}
	return rows, nil
}

func (f *Format) parseArray(array []byte, add func(line) error) (rows int, err error) {
	var elements []json.RawMessage
	if json.Unmarshal(array, &elements) != nil {
		return 0, errJSON
	}
	var row line
	for _, element := range elements {
		if err := add(f.element(element, &row)); err != nil {
			return 0, err
		}
	}
	return len(elements), nil
}

// element makes a row of a JSON text or object.
func (f *Format) element(element json.RawMessage, row *line) line {
	row.addresses, row.fields = row.addresses[:0], row.fields[:0]
	if text, ok := jsonText(element); ok {
		row.addresses = append(row.addresses, strings.TrimSpace(text))
		return *row
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(element, &members) != nil {
		return *row
	}
	single := false
	for _, name := range f.addressNames() {
		value, ok := member(members, name)
		var several []string
		switch text, isText := jsonText(value); {
		case !ok:
		case isText && !single:
			row.addresses = append(row.addresses, strings.TrimSpace(text))
			single = true
		case !isText && json.Unmarshal(value, &several) == nil:
			row.addresses = append(row.addresses, several...)
		}
	}
	for _, name := range f.Fields {
		if name == "*" {
			row.fields = append(row.fields, string(element))
			continue
		}
		value, _ := member(members, name)
		text, isText := jsonText(value)
		if !isText && string(value) != "null" {
			text = string(value)
		}
		row.fields = append(row.fields, text)
	}
	return *row
}

// member returns a member of an object, by its name in any case.
func member(members map[string]json.RawMessage, name string) (json.RawMessage, bool) {
	if v, ok := members[name]; ok {
		return v, true
	}
	for key, v := range members {
		if strings.EqualFold(key, name) {
			return v, true
		}
	}
	return nil, false
}

func jsonText(value json.RawMessage) (text string, ok bool) {
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return "", false
	}
	return text, true
}

// metadata is the last line of a list of Spamhaus.
type metadata struct {
	Type    string `json:"type"`
	Size    *int   `json:"size"` // of all lines before
	Records *int   `json:"records"`
}

// parseJSONLines parses one JSON object a line. A line of metadata has to be the
// last one, and right about the lines before it.
func (f *Format) parseJSONLines(body string, add func(line) error) error {
	var row line
	n, ended := 0, false
	for rest := body; rest != ""; {
		at := len(body) - len(rest)
		var s string
		if s, rest = nextLine(rest); strings.TrimSpace(s) == "" {
			continue
		}
		if ended {
			return errors.New("the list goes on after its end")
		}
		if !json.Valid([]byte(s)) {
			return errJSON
		}
		var end metadata
		if strings.Contains(s, `"metadata"`) && json.Unmarshal([]byte(s), &end) == nil && end.Type == "metadata" {
			ended = true
			if end.Size != nil && *end.Size != at {
				return fmt.Errorf("the list says that its rows take %d bytes, and they take %d", *end.Size, at)
			}
			if end.Records != nil {
				if err := checkEnd(*end.Records, n); err != nil {
					return err
				}
			}
			continue
		}
		n++
		if err := add(f.element(json.RawMessage(s), &row)); err != nil {
			return err
		}
	}
	if f.Metadata && !ended {
		return errors.New("the list breaks off: it does not end in a line of metadata")
	}
	return nil
}

// parseExits parses exit nodes as CollecTor publishes them
// (https://metrics.torproject.org/collector.html#type-tordnsel).
func parseExits(text string, add func(line) error) error {
	var buffer [1]string
	inNode := false
	for text != "" {
		var s string
		s, text = nextLine(text)
		switch keyword, rest, _ := strings.Cut(s, " "); keyword {
		case "ExitNode":
			inNode = true
		case "ExitAddress":
			if !inNode {
				return errors.New("an address outside of the list's nodes")
			}
			buffer[0], _, _ = strings.Cut(rest, " ")
			if err := add(line{addresses: buffer[:]}); err != nil {
				return err
			}
		case "Published", "LastStatus", "", "@type", "Downloaded":
		default:
			return errors.New("a line that no list of exit nodes has")
		}
	}
	return nil
}
