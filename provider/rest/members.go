package rest

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/decnet/enrich/internal/jsontext"
)

// member is a field of a struct: its name in JSON, in quotes, and its index.
type member struct {
	key   []byte
	index int
}

// decodeMembers decodes body into v as json.Unmarshal does, in less time. It returns
// false, and body is left to json.Unmarshal, unless v points to a struct all of whose
// fields decode themselves, such as the lenient types, and body is an object that
// jsontext.Fields accepts and that spells the struct's names as the struct does.
func decodeMembers(body []byte, v any) bool {
	pointer := reflect.ValueOf(v)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		return false
	}
	members := membersOf(pointer.Type().Elem())
	if members == nil {
		return false
	}
	type field struct {
		index int
		value []byte
	}
	var room [16]field
	found, usual := room[:0], true
	plain := jsontext.Fields(body, func(key, value []byte) {
		for i := range members {
			if bytes.Equal(key, members[i].key) {
				found = append(found, field{members[i].index, value})
				return
			}
		}
		other := func(m member) bool { return bytes.EqualFold(key, m.key) }
		usual = usual && bytes.IndexByte(key, '\\') < 0 && !slices.ContainsFunc(members, other)
	})
	if !plain || !usual {
		return false
	}
	for _, f := range found {
		if pointer.Elem().Field(f.index).Addr().Interface().(json.Unmarshaler).UnmarshalJSON(f.value) != nil {
			return false // json.Unmarshal says why
		}
	}
	return true
}

var (
	knownMembers sync.Map // of a reflect.Type: []member

	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// membersOf returns the fields of a struct. It returns nil if one of them does not decode
// itself or has no plain name, and for a type that decodes itself as a whole.
func membersOf(t reflect.Type) []member {
	if known, ok := knownMembers.Load(t); ok {
		return known.([]member)
	}
	var members []member
	itself := reflect.PointerTo(t).Implements(unmarshaler) || reflect.PointerTo(t).Implements(textUnmarshaler)
	if t.Kind() == reflect.Struct && !itself {
		members = findMembers(t)
	}
	knownMembers.Store(t, members)
	return members
}

func findMembers(t reflect.Type) (members []member) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		key := []byte(`"` + name + `"`)
		same := func(m member) bool { return bytes.EqualFold(m.key, key) }
		// json.Unmarshal does not call the methods of types without a name.
		itself := f.Type.Name() != "" && reflect.PointerTo(f.Type).Implements(unmarshaler)
		if !f.IsExported() || f.Anonymous || !isPlain(name) || options != "" || !itself || slices.ContainsFunc(members, same) {
			return nil
		}
		members = append(members, member{key, f.Index[0]})
	}
	return members
}

// isPlain reports whether name is one that stands for itself in a tag and in JSON.
func isPlain(name string) bool {
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}
	return name != "" && name != "-" && !strings.ContainsFunc(name, other)
}
