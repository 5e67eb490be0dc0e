package flags

// Secret is where a secret's value comes from: exactly one of File and Env is set.
type Secret struct {
	ID   string
	File string // path
	Env  string // name of an environment variable
}

// Secrets parses --secret: id=ID[,src=PATH|,env=NAME][,type=file|env]. With neither src nor env it is the environment variable called ID
// if there is one, else the file ID. No id occurs twice. Whether the file or variable exists is for the reader to find out.
func Secrets(values []string, lookup Lookup) ([]Secret, error) {
	f := flag{"--secret", "id=token,src=token.txt"}
	seen := map[string]bool{}
	var list []Secret
	for _, value := range values {
		s, err := f.secret(value, lookup)
		if err != nil {
			return nil, err
		}
		if seen[s.ID] {
			return nil, f.errorf(value, "the id %q is given twice", s.ID)
		}
		seen[s.ID] = true
		list = append(list, s)
	}
	return list, nil
}

func (f flag) secret(value string, lookup Lookup) (Secret, error) {
	list, err := f.pairs(value)
	if err != nil {
		return Secret{}, err
	}
	var s Secret
	var typ string
	for _, a := range list {
		switch a.key {
		case "id":
			s.ID = a.value
		case "src", "source":
			if s.File != "" {
				return Secret{}, f.errorf(value, "src and source are the same attribute")
			}
			s.File = a.value
		case "env":
			s.Env = a.value
		case "type":
			typ = a.value
		default:
			return Secret{}, f.errorf(value, "unknown attribute %q: want id, src, env or type", a.key)
		}
	}
	if s.ID == "" {
		return Secret{}, f.errorf(value, "id is missing")
	}
	return f.origin(value, s, typ, lookup)
}

// origin decides between file and variable.
func (f flag) origin(value string, s Secret, typ string, lookup Lookup) (Secret, error) {
	switch typ {
	case "", "file":
	case "env":
		if s.Env == "" { // src names the variable
			s.Env, s.File = s.File, ""
		}
		if s.Env == "" {
			s.Env = s.ID
		}
	default:
		return Secret{}, f.errorf(value, "unknown type %q: want file or env", typ)
	}
	switch {
	case s.File != "" && s.Env != "", typ == "file" && s.Env != "":
		return Secret{}, f.errorf(value, "a secret comes from a file or from a variable, not both")
	case s.File != "" || s.Env != "":
		return s, nil
	}
	if _, ok := lookup(s.ID); ok && typ != "file" {
		s.Env = s.ID
	} else {
		s.File = s.ID
	}
	return s, nil
}
