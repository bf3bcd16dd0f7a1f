import { Served, shopRoute } from "../../../../shared/served.jsx";

export default async function Page({ params }) {
  return <Served route={shopRoute((await params).id)} />;
}
