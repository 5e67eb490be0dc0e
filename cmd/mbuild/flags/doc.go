// Package flags parses the values of mbuild's command-line flags, in the grammar that docker buildx build gives them, into typed values.
//
// The functions are pure: they look at no file and no environment except through the lookup function they are handed. They take all
// values of a repeatable flag at once, each exactly as written (a command-line library must not split them at commas). What a value
// asks for and mbuild does not do is refused by name; nothing is accepted and ignored. Every error is an *Error.
package flags
