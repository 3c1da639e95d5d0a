// Package problem writes answers that are not a success, as RFC 9457 specifies them.
package problem

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Type is the Content-Type of a problem.
const Type = "application/problem+json"

// Text returns a problem. The detail is for people.
func Text(code int, detail string) []byte {
	text, _ := json.Marshal(struct { // text and numbers always marshal
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(code), code, detail})
	return text
}

// Write answers with a problem, which nobody may keep.
func Write(w http.ResponseWriter, code int, detail string) {
	text := Text(code, detail)
	h := w.Header()
	h.Set("Content-Type", Type)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	_, _ = w.Write(text) // fails if nobody waits for it
}
