package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
)

// iniSections are the sections of decnet.ini that are read, in order of
// precedence, and what the variables of their keys begin with. In [master],
// db-type stands for DECNET_DB_TYPE; in [database], type does.
var iniSections = []struct{ name, prefix string }{
	{"master", "DECNET_"}, {"agent", "DECNET_"}, {"decnet", "DECNET_"},
	{"database", "DECNET_DB_"}, {"bus", "DECNET_BUS_"},
}

// maxConfigFile is the greatest size of a configuration file.
const maxConfigFile = 1 << 20

// parseINI reads a file as Python's configparser does: sections in brackets,
// keys and values separated by = or :, comments that begin with # or ;, and
// indented lines that continue a value. It returns the variables that the keys
// stand for. Its errors repeat nothing from the file, which may hold secrets.
func parseINI(r io.Reader) (map[string]string, error) {
	found := make([]map[string]string, len(iniSections)) // by place in iniSections
	for i := range found {
		found[i] = map[string]string{}
	}
	section, variable, any := -1, "", false
	in := bufio.NewScanner(io.LimitReader(r, maxConfigFile))
	in.Buffer(nil, maxConfigFile)
	for n := 1; in.Scan(); n++ {
		line := in.Text()
		if n == 1 {
			line = strings.TrimPrefix(line, "\uFEFF")
		}
		text := strings.TrimSpace(line)
		switch {
		case text == "" || text[0] == '#' || text[0] == ';':
			continue
		case (line[0] == ' ' || line[0] == '\t') && any:
			if variable != "" {
				found[section][variable] += "\n" + text
			}
			continue
		case text[0] == '[':
			name, ok := strings.CutSuffix(text[1:], "]")
			if !ok {
				return nil, fmt.Errorf("line %d: the section has no closing bracket", n)
			}
			section, variable, any = -1, "", false
			for i := range iniSections {
				if iniSections[i].name == name {
					section = i
				}
			}
			continue
		}
		at := strings.IndexAny(text, "=:")
		if at < 1 {
			return nil, fmt.Errorf("line %d: it is neither a section, a comment nor a key with a value", n)
		}
		any, variable = true, ""
		if section < 0 {
			continue // a section of others
		}
		key := strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(text[:at]), "-", "_"))
		variable = iniSections[section].prefix + strings.TrimPrefix(key, "DECNET_")
		if _, twice := found[section][variable]; twice {
			return nil, fmt.Errorf("line %d: the section has this key already", n)
		}
		found[section][variable] = strings.TrimSpace(text[at+1:])
	}
	if err := in.Err(); err != nil {
		return nil, errors.New("a line is too long")
	}
	variables := map[string]string{}
	for i := len(found) - 1; i >= 0; i-- {
		maps.Copy(variables, found[i])
	}
	return variables, nil
}

// parseDotenv reads a file of lines NAME=VALUE, as DECNET's .env is. A value may
// be in quotes. Only names that begin with DECNET_ are returned. Its errors repeat
// nothing from the file.
func parseDotenv(r io.Reader) (map[string]string, error) {
	variables := map[string]string{}
	in := bufio.NewScanner(io.LimitReader(r, maxConfigFile))
	in.Buffer(nil, maxConfigFile)
	for n := 1; in.Scan(); n++ {
		text := strings.TrimSpace(in.Text())
		if n == 1 {
			text = strings.TrimPrefix(text, "\uFEFF")
		}
		if text == "" || text[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(text, "export "), "=")
		if !ok {
			return nil, fmt.Errorf("line %d: it is not of the form NAME=VALUE", n)
		}
		if name = strings.TrimSpace(name); strings.HasPrefix(name, "DECNET_") {
			variables[name] = unquoted(strings.TrimSpace(value))
		}
	}
	if err := in.Err(); err != nil {
		return nil, errors.New("a line is too long")
	}
	return variables, nil
}

// unquoted returns the value that stands in a .env file: what is between quotes,
// or the text up to a comment.
func unquoted(text string) string {
	if text != "" && (text[0] == '"' || text[0] == '\'') {
		if end := strings.IndexByte(text[1:], text[0]); end >= 0 {
			return text[1 : 1+end]
		}
	}
	if at := strings.Index(text, " #"); at >= 0 {
		text = strings.TrimSpace(text[:at])
	}
	return text
}
