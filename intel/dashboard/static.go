package dashboard

import (
	"embed"
	"encoding/hex"
	"hash/fnv"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static templates
var files embed.FS

// Public returns the handlers of the files that the pages load, by path. They are the
// same for everybody and hold nothing that is secret.
func Public() map[string]http.Handler {
	public := map[string]http.Handler{}
	entries, _ := files.ReadDir("static") // it is embedded
	for _, e := range entries {
		public["/"+e.Name()] = file(e.Name())
	}
	return public
}

// Panel serves the web component <intel-panel>, at any path. Pages of every origin
// may load it.
func Panel() http.Handler { return file("intel-panel.js") }

// file serves an embedded file.
func file(name string) http.Handler {
	text, err := files.ReadFile("static/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	h := fnv.New64a()
	_, _ = h.Write(text) // never fails
	tag := `W/"` + hex.EncodeToString(h.Sum(nil)) + `"`
	contentType := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) {
	case ".js":
		contentType = "text/javascript; charset=utf-8"
	case ".css":
		contentType = "text/css; charset=utf-8"
	case ".svg":
		contentType = "image/svg+xml"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
			return
		}
		header.Set("Content-Type", contentType)
		header.Set("Cache-Control", "public, no-cache") // kept, and asked about each time
		header.Set("ETag", tag)
		header.Set("Access-Control-Allow-Origin", "*")
		header.Set("Cross-Origin-Resource-Policy", "cross-origin")
		header.Set("X-Content-Type-Options", "nosniff")
		if strings.Contains(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(text) // fails if nobody waits for it
	})
}
