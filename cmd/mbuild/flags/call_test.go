package flags

import "testing"

func TestParseCall(t *testing.T) {
	check(t, "--call", one(ParseCall), []row[Call]{
		{rule: "without a value it is a build", values: []string{""}, want: Call{Method: MethodBuild}},
		{rule: "a build", values: []string{"build"}, want: Call{Method: MethodBuild}},
		{rule: "a check", values: []string{"check"}, want: Call{Method: MethodCheck}},
		{rule: "the older name of a check", values: []string{"lint"}, want: Call{Method: MethodCheck}},
		{rule: "an outline as JSON", values: []string{"outline,format=json"}, want: Call{Method: MethodOutline, JSON: true}},
		{rule: "fields in any order", values: []string{"format=json,ignorestatus=1,check"}, want: Call{Method: MethodCheck, JSON: true, IgnoreStatus: true}},
		{rule: "text is said too", values: []string{"targets,format=text,ignorestatus=false"}, want: Call{Method: MethodTargets}},
		{rule: "a list of methods", values: []string{"subrequests.describe"}, want: Call{Method: MethodDescribe}},
		{rule: "fields without a method are of a build", values: []string{"format=json"}, want: Call{Method: MethodBuild, JSON: true}},
		{rule: "an unknown method", values: []string{"destroy"}, err: "unknown method"},
		{rule: "two methods", values: []string{"check,outline"}, err: "two methods"},
		{rule: "an unknown format", values: []string{"check,format=xml"}, err: "unknown format"},
		{rule: "an unknown field", values: []string{"check,color=red"}, err: "unknown field"},
		{rule: "a status that is no switch", values: []string{"check,ignorestatus=maybe"}, err: "ignorestatus"},
		{rule: "broken CSV", values: []string{`"check`}, err: "comma-separated"},
	})
}
