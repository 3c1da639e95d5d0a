package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lookup returns a variable and whether it is set, as os.LookupEnv does.
type lookup func(name string) (value string, set bool)

// environment reads variables and collects what is wrong with them. Its errors
// repeat no value that could be a secret.
type environment struct {
	lookup   lookup
	errs     []error
	warnings []string
}

// get returns a variable, and "" if it is not set.
func (e *environment) get(name string) string {
	value, _ := e.lookup(name)
	return value
}

// text returns a variable without surrounding white space.
func (e *environment) text(name string) string { return strings.TrimSpace(e.get(name)) }

func (e *environment) warn(format string, args ...any) {
	e.warnings = append(e.warnings, fmt.Sprintf(format, args...))
}

func (e *environment) refuse(format string, args ...any) {
	e.errs = append(e.errs, fmt.Errorf(format, args...))
}

// boolean returns a variable that is true or false, and true if it is not set.
func (e *environment) boolean(name string) bool {
	switch value := e.text(name); strings.ToLower(value) {
	case "", "1", "true", "yes", "on":
		return true
	case "0", "false", "no", "off":
		return false
	default:
		e.refuse("%s is %.40q; it must be true or false", name, value)
		return false
	}
}

// Where DECNET is by default. Tests change them.
var (
	defaultInstallDir = "/opt/decnet"
	defaultINI        = "/etc/decnet/decnet.ini"
)

// addFiles adds what DECNET's configuration files say, below the environment:
// .env.local and .env in its install directory, and then its ini file.
func (e *environment) addFiles(dir string) {
	if dir == "" {
		dir = defaultInstallDir
	}
	for _, name := range []string{".env.local", ".env"} {
		e.addFile(filepath.Join(dir, name), false, parseDotenv)
	}
	if path := e.text("DECNET_CONFIG"); path != "" {
		e.addFile(path, true, parseINI)
	} else {
		e.addFile(defaultINI, false, parseINI)
	}
}

// addFile adds the variables in a file below those that are known. A file that is
// not there is an error only if it is required.
func (e *environment) addFile(path string, required bool, parse func(io.Reader) (map[string]string, error)) {
	f, err := os.Open(path)
	switch {
	case err != nil && !required && errors.Is(err, fs.ErrNotExist):
		return
	case err != nil && !required:
		e.warn("DECNET's configuration is not read: %v", err)
		return
	case err != nil:
		e.refuse("DECNET_CONFIG: %w", err)
		return
	}
	defer f.Close()
	variables, err := parse(f)
	if err != nil {
		e.refuse("%s: %w", path, err)
		return
	}
	above := e.lookup
	e.lookup = func(name string) (string, bool) {
		if value, set := above(name); set {
			return value, true
		}
		value, set := variables[name]
		return value, set
	}
}
