package httpapi

import (
	_ "embed"
	"encoding/json"
	"net/http"
)

// openAPI describes this API, in OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0),
// with all routes that there can be.
//
//go:embed openapi.json
var openAPI []byte

// describe returns openAPI without the routes that are absent.
func describe(absent map[string]bool) []byte {
	var document, paths map[string]json.RawMessage
	_ = json.Unmarshal(openAPI, &document) // a test reads it, too
	_ = json.Unmarshal(document["paths"], &paths)
	for path, is := range absent {
		if is {
			delete(paths, path)
		}
	}
	document["paths"], _ = json.Marshal(paths)
	text, _ := json.Marshal(document)
	return text
}

func (a *api) serveOpenAPI(w http.ResponseWriter, r *http.Request) { send(w, r, a.document) }
