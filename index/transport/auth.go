package transport

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// maxToken bounds a token server's answer.
const maxToken = 1 << 20

// authorizer makes the Authorization headers for one registry.
type authorizer struct {
	host      string // for the keychain
	keychain  authn.Keychain
	userAgent string
	plain     func() bool  // whether the registry is reached without TLS
	http      *http.Client // to the token server

	mu         sync.Mutex
	asked      challenge          // the registry's last challenge
	granted    map[string]granted // by scopes
	secrets    []string           // what must not appear in a message
	identified bool               // whether the keychain had anything for us
}

// granted is an Authorization header and how long it is good for.
type granted struct {
	header  string
	expires time.Time // zero: unknown
}

// header returns what to send for scopes, empty before the first challenge.
func (a *authorizer) header(ctx context.Context, repository string, scopes []string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked.scheme == "" {
		return "", nil
	}
	g, ok := a.granted[strings.Join(scopes, " ")]
	if ok && (g.expires.IsZero() || time.Now().Before(g.expires)) {
		return g.header, nil
	}
	return a.obtain(ctx, repository, scopes)
}

// refresh answers the challenge in h, refused being the header that was not
// good enough. It returns the same header when there is nothing better.
func (a *authorizer) refresh(ctx context.Context, h http.Header, repository string, scopes []string, refused string) (string, error) {
	asked, ok := pick(h)
	if !ok {
		return refused, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = asked
	if g := a.granted[strings.Join(scopes, " ")]; g.header != "" && g.header != refused {
		return g.header, nil // somebody else has been quicker
	}
	return a.obtain(ctx, repository, scopes)
}

// obtain gets and remembers a header for scopes. mu is held.
func (a *authorizer) obtain(ctx context.Context, repository string, scopes []string) (string, error) {
	cfg, err := a.credentials(ctx, repository)
	if err != nil {
		return "", err
	}
	var g granted
	switch {
	case a.asked.scheme == "basic":
		if cfg.Username != "" || cfg.Password != "" {
			g.header = basic(cfg)
		}
	case cfg.RegistryToken != "":
		g.header = "Bearer " + cfg.RegistryToken
	default:
		if g, err = a.token(ctx, cfg, scopes); err != nil {
			return "", err
		}
	}
	if a.granted == nil {
		a.granted = map[string]granted{}
	}
	a.granted[strings.Join(scopes, " ")] = g
	if _, secret, ok := strings.Cut(g.header, " "); ok {
		a.remember(secret)
	}
	return g.header, nil
}

func (a *authorizer) credentials(ctx context.Context, repository string) (*authn.AuthConfig, error) {
	auth, err := authn.Resolve(ctx, a.keychain, resource{a.host, repository})
	if err != nil {
		return nil, err
	}
	cfg, err := authn.Authorization(ctx, auth)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %s", a.host, clean(err.Error()))
	}
	a.identified = *cfg != authn.AuthConfig{}
	a.remember(cfg.Password, cfg.IdentityToken, cfg.RegistryToken)
	return cfg, nil
}

// token exchanges credentials for a bearer token, as the distribution project's
// "token authentication" and "oauth2" pages describe.
func (a *authorizer) token(ctx context.Context, cfg *authn.AuthConfig, scopes []string) (granted, error) {
	realm, err := a.realm()
	if err != nil {
		return granted{}, err
	}
	scopes = slices.Clone(scopes)
	if more := a.asked.params["scope"]; more != "" && !slices.Contains(scopes, more) {
		scopes = append(scopes, more)
	}
	form := url.Values{"service": {a.asked.params["service"]}}
	req := &http.Request{Method: http.MethodGet, URL: realm, Header: http.Header{"User-Agent": {a.userAgent}}}
	if cfg.IdentityToken != "" {
		form.Set("grant_type", "refresh_token")
		form.Set("client_id", "mbuild")
		form.Set("refresh_token", cfg.IdentityToken)
		form.Set("scope", strings.Join(scopes, " "))
		req.Method = http.MethodPost
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Body = io.NopCloser(strings.NewReader(form.Encode()))
	} else {
		form["scope"] = scopes
		query := realm.Query()
		for k, v := range form {
			query[k] = v
		}
		realm.RawQuery = query.Encode()
		if cfg.Username != "" {
			header := basic(cfg)
			a.remember(strings.TrimPrefix(header, "Basic "))
			req.Header.Set("Authorization", header)
		}
	}
	resp, err := a.http.Do(req.WithContext(ctx))
	if err != nil {
		return granted{}, netError(req, err)
	}
	if resp.StatusCode != http.StatusOK {
		return granted{}, statusError(resp)
	}
	defer resp.Body.Close()
	return readToken(resp.Body, realm.Host)
}

// realm checks where the registry wants us to send the user's credentials.
func (a *authorizer) realm() (*url.URL, error) {
	bad := func(why string) (*url.URL, error) {
		return nil, fmt.Errorf("%s names the token server %q: %s", a.host, clean(a.asked.params["realm"]), why)
	}
	u, err := url.Parse(a.asked.params["realm"])
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return bad("not a usable address")
	case u.Scheme != "https" && (u.Scheme != "http" || !a.plain()):
		return bad("credentials go to it over https only")
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLinkLocalUnicast() {
		return bad("a link-local address cannot be one")
	}
	return u, nil
}

func readToken(body io.Reader, host string) (granted, error) {
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	// The cause is left out: it could quote the token.
	if json.NewDecoder(io.LimitReader(body, maxToken)).Decode(&answer) != nil {
		return granted{}, fmt.Errorf("token server %s: its answer is not a token", host)
	}
	if answer.Token == "" {
		answer.Token = answer.AccessToken
	}
	if answer.Token == "" || strings.ContainsAny(answer.Token, "\r\n") {
		return granted{}, fmt.Errorf("token server %s: its answer has no token", host)
	}
	g := granted{header: "Bearer " + answer.Token}
	if answer.ExpiresIn > 0 {
		life := time.Duration(min(answer.ExpiresIn, 1<<20)) * time.Second
		g.expires = time.Now().Add(life * 9 / 10) // not in the middle of a request
	}
	return g, nil
}

func basic(cfg *authn.AuthConfig) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(cfg.Username+":"+cfg.Password))
}

func (a *authorizer) remember(secrets ...string) {
	for _, s := range secrets {
		if s != "" && !slices.Contains(a.secrets, s) {
			a.secrets = append(a.secrets, s)
		}
	}
}

// redact removes secrets from a refusal (a server may echo them) and adds the
// advice for one that is about access.
func (a *authorizer) redact(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.secrets {
		e.Message = strings.ReplaceAll(e.Message, s, "[secret]")
	}
	if e.kind() != ErrUnauthorized || e.Advice != "" {
		return err
	}
	switch files, ok := a.keychain.(Files); {
	case a.identified:
		e.Advice = fmt.Sprintf("the credentials configured for %s do not allow this; `docker login %s` (or podman, skopeo) replaces them", a.host, a.host)
	case ok && len(files) > 0:
		e.Advice = fmt.Sprintf("`docker login %s` (or podman, skopeo); no credentials for it in %s", a.host, files)
	default:
		e.Advice = fmt.Sprintf("`docker login %s` (or podman, skopeo)", a.host)
	}
	return err
}
