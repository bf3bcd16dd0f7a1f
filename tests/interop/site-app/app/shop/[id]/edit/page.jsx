import { Served } from "../../../../../shared/served.jsx";

export default function Page() {
  return <Served route="edit" />;
}
